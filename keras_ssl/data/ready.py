"""Checks of batches that the user has made."""

import keras
import tensorflow as tf

from keras_ssl.data import errors
from keras_ssl.data.layout import unit_range


def checked_views(dataset: tf.data.Dataset, name: str) -> tf.data.Dataset:
    """`dataset`, whose batches raise where their views cannot be trained on.

    Views must be finite, lie in [0, 1], and be of at least 2 images.

    Args:
        dataset: of dicts; their `"views"`, if they have any, are checked.
        name: of the method, for the message.
    """

    def check(batch):
        views = [v for v in keras.tree.flatten(batch.get("views", ())) if v.dtype.is_floating]
        checks = [check for view in views for check in _checks(view, name)]
        with tf.control_dependencies(checks):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.map(check, num_parallel_calls=tf.data.AUTOTUNE)


def _checks(view: tf.Tensor, name: str) -> list:
    rule = (
        "Views must be finite and lie in [0, 1]. Divide images in 0 to 255 by 255, and leave "
        "normalisation to the backbone. Received ready batches with"
    )
    checks = [unit_range(view, rule)]
    if view.shape[0] is None:
        single = (
            f"{errors.BEGIN}{name} needs at least 2 images a batch, as a single one has nothing to "
            "be compared with. Received: a ready batch of fewer. Use a larger batch size, or "
            f"batch(..., drop_remainder=True).{errors.END}"
        )
        checks.append(tf.debugging.Assert(tf.shape(view)[0] >= 2, [single]))
    return checks
