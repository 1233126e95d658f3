"""HTML pages: one on a run, one to browse images by their features."""

from keras_ssl.report import browser
from keras_ssl.report.card import add_evaluation
from keras_ssl.report.page import write_report

__all__ = ["add_evaluation", "browser", "write_report"]
