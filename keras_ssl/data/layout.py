"""What an image must look like: the order of its dimensions, the range of its values."""

from collections.abc import Sequence

import tensorflow as tf

from keras_ssl.data import errors

SLACK = 1e-3  # by which a resized float image may leave [0, 1]; cut off

_MOST = 4  # height of at most this, with more channels: the channels stand first


def check_channels_last(shape: Sequence[int | None], name: str, remedy: str) -> None:
    """Raise where images of `shape`, (..., height, width, channels), have their channels first.

    Args:
        shape: of an image or of several, None where unknown.
        name: of what has that shape.
        remedy: how to put the channels last.
    """
    height, _, channels = tuple(shape)[-3:]
    if None not in (height, channels) and height <= _MOST < channels:
        raise ValueError(
            f"Images must have their channels last. Received: {name} of shape {tuple(shape)}. "
            f"Use {remedy}."
        )


def unit_range(images: tf.Tensor, rule: str) -> tf.Operation:
    """In a graph, raise where floats are not finite or leave [0, 1].

    Args:
        images: float tensor.
        rule: what must hold and what to do, for the message, which the two values end.
    """
    low, high = (f(tf.cast(images, tf.float32)) for f in (tf.reduce_min, tf.reduce_max))
    # TensorFlow's minimum and maximum may pass over NaN.
    fits = (low >= -SLACK) & (high <= 1 + SLACK) & tf.reduce_all(tf.math.is_finite(images))
    numbers = (tf.strings.as_string(number, shortest=True) for number in (low, high))
    # One string, values included: of several, TensorFlow would print each in brackets.
    message = tf.strings.join([f"{errors.BEGIN}{rule} smallest and largest value:", *numbers], " ")
    return tf.debugging.Assert(fits, [message + errors.END])
