"""Images for evaluation: a fixed choice, one size, in memory."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_ssl.data import errors

_BATCH = 256


def choose(size: int, limit: int | None) -> np.ndarray:
    """Increasing indices: all, or a random choice of `limit` that is the same every time.

    Random, since the classes of folders lie one behind the other.
    """
    if limit is None or limit >= size:
        return np.arange(size)
    if limit < 1:
        raise ValueError(f"`limit` must be >= 1, or None for all images. Received: limit={limit}.")
    return np.sort(np.random.default_rng(0).permutation(size)[:limit])


def collect(
    elements: tf.data.Dataset, image_size: tuple[int, int], dtype: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, height, width, channels)` of `{"image", "index"}`, resized; and their indices."""
    images, indices = zip(*batches(elements, image_size, dtype, name), strict=True)
    return np.concatenate(images), np.concatenate(indices)


def batches(
    elements: tf.data.Dataset,
    image_size: tuple[int, int],
    dtype: str,
    name: str,
    batch_size: int = _BATCH,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same in batches, one at a time in memory; `name`: of the source, for an error."""
    resized = elements.map(
        lambda element: (resize_and_crop(element["image"], image_size, dtype), element["index"]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    empty = True
    for batch in resized.batch(batch_size).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        empty = False
        yield batch
    if empty:
        raise ValueError(errors.empty_pass(name))


def resize_and_crop(image: tf.Tensor, image_size: tuple[int, int], dtype: str) -> tf.Tensor:
    """The largest central part of `image` with the wanted ratio, in the wanted size (smoothed)."""
    height, width = image_size
    if tuple(image.shape[:2]) == (height, width):
        return image
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    factor = tf.maximum(height / shape[0], width / shape[1])
    resized = tf.maximum(tf.cast(tf.round(shape * factor), tf.int32), [height, width])
    image = tf.image.resize(image, resized, method="bilinear", antialias=True)
    top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
    image = tf.image.crop_to_bounding_box(image, top, left, height, width)
    if dtype == "uint8":
        return tf.saturate_cast(tf.round(image), tf.uint8)
    return tf.clip_by_value(image, 0.0, 1.0)
