"""One HTML page on a run."""

from keras_ssl.report.card import add_evaluation
from keras_ssl.report.page import write_report

__all__ = ["add_evaluation", "write_report"]
