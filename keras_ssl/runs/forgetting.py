"""Networks that are of no use any more."""

import contextlib
import gc
import logging

from keras_ssl import distribute


@contextlib.contextmanager
def forgetting():
    """After it the networks made within are let go; TensorFlow's advice on tracing is not shown."""
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_not_on_tracing)
    try:
        with distribute.forgetting_graphs():
            yield
    finally:
        logger.removeFilter(_is_not_on_tracing)
        gc.collect()


def _is_not_on_tracing(record: logging.LogRecord) -> bool:
    """A network a run is not the repeated tracing that TensorFlow warns of."""
    return "tf.function retracing" not in record.getMessage()
