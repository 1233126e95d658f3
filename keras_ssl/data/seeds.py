"""Seeds as a function of (seed, purpose, epoch, index), which make a stream repeatable."""

import tensorflow as tf

ORDER, VIEWS, REPLACEMENT = 1, 2, 3  # purposes; different ones give independent seeds


def epoch_seed(seed: int, purpose: int, epoch: tf.Tensor | int) -> tf.Tensor:
    """Seed (int32, two numbers) of one epoch for one purpose."""
    start = _hash(tf.constant([seed % 2**63, purpose], tf.int64), tf.int64)
    return _hash(tf.stack([start[0] + tf.cast(epoch, tf.int64), start[1]]), tf.int32)


def element_seed(seed: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Seed (int32, two numbers) of element `index` under an epoch's seed."""
    return _hash(tf.stack([seed[0] + tf.cast(index, tf.int32), seed[1]]), tf.int32)


# A hash between the levels: adding epoch and index to one number would make (epoch 0, image 1) and
# (epoch 1, image 0) alike.
def _hash(numbers: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.raw_ops.StatelessRandomUniformFullInt(shape=[2], seed=numbers, dtype=dtype)
