"""Source from a `tf.data.Dataset`."""

from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from keras_ssl.data import errors
from keras_ssl.data.layout import check_channels_last, unit_range
from keras_ssl.data.sequential import SequentialSource

_SAMPLE = 64  # images looked at where their size differs


def from_dataset(dataset: tf.data.Dataset, name: str = "tf.data.Dataset") -> SequentialSource:
    """Source from a data set of images, (image, label) or `{"image": ..., "label": ...}`.

    Images are uint8 or float in [0, 1], one an element or in batches. The data set should give the
    same order every time, and must give its images every time; the source shuffles it in a buffer
    of up to 10,000 images (512 MB). Where it does not know its size, it is counted in one pass.

    Raises:
        ValueError: if elements have another form, or the data set is empty, infinite, or counting
            used it up.
    """
    image_spec, label_spec = _parts(dataset.element_spec)
    _check(image_spec, name)
    rank = image_spec.shape.rank
    single = dataset.unbatch() if rank == 4 else dataset
    size = _count(single, name)  # first: what else reads images would use a generator up
    batch_size = (image_spec.shape[0] or _first_batch(dataset)) if rank == 4 else None
    images = single.map(lambda *element: _parts(_whole(element))[0])
    shape = image_spec.shape[-3:]
    height, width = shape[:2] if None not in shape[:2] else _median_size(images, name)
    labels = None
    scalar_labels = getattr(label_spec, "shape", tf.TensorShape(None)).rank == rank - 3
    if scalar_labels and label_spec.dtype.is_integer:
        labels = _label_reader(single)
    return SequentialSource(
        images,
        _decoder(image_spec.dtype, shape),
        size,
        read_labels=labels,
        name=name,
        image_shape=tuple(shape),
        typical_size=(height, width),
        dtype="uint8" if image_spec.dtype == tf.uint8 else "float32",
        batch_size=batch_size,
    )


def _first_batch(dataset: tf.data.Dataset) -> int | None:
    """Images in the first batch, where batches do not say how many they hold; None without one."""
    for element in dataset.take(1):
        return int(tf.shape(_parts(element)[0])[0])
    return None


def _whole(element: tuple) -> Any:
    """What `map` passed as several arguments, as one element again."""
    return element[0] if len(element) == 1 else element


def _parts(element: Any) -> tuple[Any, Any]:
    """(image, label or None) of an element or of its specification."""
    if isinstance(element, dict):
        if "image" not in element:
            raise ValueError(
                "Elements that are dicts must have the key 'image'. "
                f"Received: {sorted(element)}. Rename it with dataset.map(...)."
            )
        return element["image"], element.get("label")
    if isinstance(element, tuple):
        return element[0], element[1] if len(element) > 1 else None
    return element, None


def _check(spec: Any, name: str) -> None:
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (3, 4) or not spec.shape[-1]:
        raise ValueError(
            "Elements must be images (height, width, channels), or batches of them, with a known "
            f"number of channels. Received: {spec} from {name}. "
            "Use dataset.map(lambda image: tf.ensure_shape(image, (None, None, 3)))."
        )
    if spec.dtype != tf.uint8 and not spec.dtype.is_floating:
        raise ValueError(
            f"Images must be uint8 (0 to 255) or float (0 to 1). Received: {spec.dtype.name} from "
            f"{name}. Use dataset.map(lambda image: tf.cast(image, tf.uint8))."
        )
    order = (1, 2, 0) if spec.shape.rank == 3 else (0, 2, 3, 1)
    remedy = f"dataset.map(lambda image: tf.transpose(image, {order}))"
    check_channels_last(spec.shape, name, remedy)


def _decoder(dtype: tf.DType, shape: tf.TensorShape):
    def decode(image: tf.Tensor) -> tf.Tensor:
        image.set_shape(shape)
        if dtype == tf.uint8:
            return image
        image = tf.cast(image, tf.float32)
        rule = (
            "Float images must be finite and lie in [0, 1]. Divide images in 0 to 255 by 255, undo "
            "a normalisation, or pass uint8. Received"
        )
        with tf.control_dependencies([unit_range(image, rule)]):
            return tf.clip_by_value(image, 0.0, 1.0)

    return decode


def _count(dataset: tf.data.Dataset, name: str) -> int:
    size = int(dataset.cardinality())
    if size == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{name} is infinite. Pass it without repeat(), or cut it: dataset.take(count)."
        )
    if size == tf.data.UNKNOWN_CARDINALITY:
        logging.info("Counting the images of %s, which does not know its size, in one pass.", name)
        size = int(dataset.reduce(np.int64(0), lambda count, *_: count + 1))
        logging.info("%s: %d images.", name, size)
        if size and not sum(1 for _ in dataset.take(1)):
            raise ValueError(errors.empty_pass(name))
    return size


def _median_size(images: tf.data.Dataset, name: str) -> tuple[int, int]:
    shapes = [shape[:2] for shape in images.take(_SAMPLE).map(tf.shape).as_numpy_iterator()]
    if not shapes:
        raise ValueError(f"{name} is empty. Pass at least 2 images.")
    height, width = np.median(shapes, axis=0)
    return int(height), int(width)


def _label_reader(dataset: tf.data.Dataset):
    def read_labels(count: int) -> np.ndarray:
        labels = dataset.take(count).map(lambda *element: _parts(_whole(element))[1])
        return np.array(list(labels.as_numpy_iterator())).astype(np.int64)

    return read_labels
