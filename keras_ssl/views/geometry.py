"""Stateless geometry on one image: central crop, crop of a padded image, right-angle rotations.

Images are `(H, W, C)`, uint8 or float; no operation here but a resize makes new values.
"""

from collections.abc import Sequence

import tensorflow as tf

from keras_ssl.views import image_ops


def center_crop(image: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """The largest central part of `image` with the ratio of `size`, in that size.

    Resized (bilinear, antialiased where it shrinks) only if needed: where one side already has the
    wanted length and the other is not shorter, pixels stay as they are. Evaluation prepares its
    images the same way.

    Args:
        image: `(H, W, C)`, uint8 or float in [0, 1].
        size: height and width of the result.

    Returns:
        float32 `(*size, C)` in [0, 1].
    """
    size, channels = list(size), image_ops.num_channels(image)
    if list(image.shape[:2]) == size:
        return image_ops.to_float(image)
    image = image_ops.to_float(image)
    shape = tf.shape(image)[:2]
    lengths = tf.cast(shape, tf.float32)
    # Scaled until the image just covers `size`; rounding must not leave a side one pixel short.
    factor = tf.reduce_max(tf.constant(size, tf.float32) / lengths)
    covering = tf.maximum(tf.cast(tf.round(lengths * factor), tf.int32), size)
    image = tf.cond(
        tf.reduce_all(covering == shape),
        lambda: image,
        lambda: tf.image.resize(image, covering, method="bilinear", antialias=True),
    )
    place = (covering - size) // 2
    image = tf.slice(image, tf.concat([place, [0]], 0), [*size, channels])
    return image_ops.clip(image)


def pad_and_crop(image: tf.Tensor, seed: tf.Tensor, size: Sequence[int], padding: int) -> tf.Tensor:
    """A part of `size`, its place uniform, of the image with `padding` zeros on every side."""
    channels = image_ops.num_channels(image)
    room = tf.shape(image)[:2] + (2 * padding - size[0], 2 * padding - size[1])
    room = tf.ensure_shape(room, (2,))
    place = tf.floor(image_ops.uniforms(seed, 2) * tf.cast(room + 1, tf.float32))
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    begin = tf.concat([tf.cast(place, tf.int32), [0]], 0)
    return tf.ensure_shape(tf.slice(padded, begin, [*size, channels]), (*size, channels))


def right_angles(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The image turned counter-clockwise by 0, 90, 180 and 270 degrees.

    Transposes and reversals alone, as `np.rot90` does: every result has the same pixels.
    """
    across = tf.transpose(image, (1, 0, 2))
    half = tf.reverse(image, [0, 1])
    return image, tf.reverse(across, [0]), half, tf.reverse(across, [1])
