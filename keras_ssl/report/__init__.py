"""One HTML page on a run."""

from keras_ssl.report.page import write_report

__all__ = ["write_report"]
