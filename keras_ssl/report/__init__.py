"""HTML pages: on a run, on a comparison of methods, and to browse images by their features."""

from keras_ssl.report import browser
from keras_ssl.report.card import add_evaluation
from keras_ssl.report.comparison import Line, write_comparison
from keras_ssl.report.page import write_report

__all__ = ["Line", "add_evaluation", "browser", "write_comparison", "write_report"]
