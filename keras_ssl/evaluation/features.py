"""Frozen features of images, as NumPy arrays.

Every measure of this package starts here: run the encoder once over a set of images without
augmentation, then work on the features.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from keras_ssl.data import Source, with_classes_of


def extract(
    encode: Callable[[Any], Any],
    images: Any,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Features of all images, in their order.

    The last partial batch is padded with copies of its last image and the extra features are
    dropped, so a compiled `encode` sees one batch shape and is traced once.

    Args:
        encode: images (B, H, W, C) -> features (B, D); for instance `model.encode`. A hook of an
            `SSLModel` runs compiled.
        images: an array (N, H, W, C) of uint8 or floats in [0, 1]; or a `data.Source`; or an
            iterable of batches (arrays, or tuples or dicts whose first entry or `"image"` is
            the images).
        batch_size: images per call of `encode`.
        image_size: (height, width) to which a `data.Source` of varying sizes is brought.

    Returns:
        float32 array (N, D).

    Raises:
        ValueError: there is no image, `batch_size` < 1, or `encode` does not return (B, D).
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: batch_size={batch_size}.")
    encode = _compiled(encode)
    features: list[np.ndarray] = []
    size = 0
    for batch in _batches(images, batch_size, image_size):
        size = size or len(batch)
        for start in range(0, len(batch), size):
            features.append(_encode_padded(encode, batch[start : start + size], size))
    if not features:
        raise ValueError("`images` must hold at least one image. Received none.")
    return np.concatenate(features)


def labelled_features(
    encode: Callable[[Any], Any],
    data: Any,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
    name: str = "train",
    classes_of: Any = None,
    progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a pair or of a source, of which one batch is in memory at a time.

    Args:
        encode: as `extract`.
        data: (images, labels), or a `data.Source` with labels, whose unreadable images are left
            out.
        batch_size: images per call of `encode`.
        image_size: as `labelled`.
        name: as `labelled`.
        classes_of: as `labelled`.
        progress: what a progress bar on stderr is called; None shows none.

    Returns:
        float32 array (N, D) and int64 array (N,).

    Raises:
        ValueError: as `extract` and `labelled`.
    """
    if not isinstance(data, Source) or not data.has_labels:  # which `labelled` refuses
        images, labels = labelled(data, image_size, name, classes_of)
        return extract(encode, images, batch_size, image_size), labels
    source = with_classes_of(data, classes_of) if isinstance(classes_of, Source) else data
    found = []

    def images() -> Iterator:
        size = _source_size(source, image_size)
        with tqdm(total=source.size, desc=progress, unit="img", disable=progress is None) as bar:
            for batch, indices in source.batches(size, batch_size):
                found.append(indices)
                yield batch
                bar.update(len(batch))

    features = extract(encode, images(), batch_size)
    return features, source.labels_at(np.concatenate(found)).astype(np.int64)


def labelled(
    data: Any,
    image_size: tuple[int, int] | None = None,
    name: str = "train",
    classes_of: Any = None,
) -> tuple[Any, np.ndarray]:
    """The (images, labels) of a pair or of a `data.Source` that has labels.

    Args:
        data: (images, labels), or a `data.Source`.
        image_size: (height, width), needed for a source of images of varying sizes.
        name: what to call the argument in an error.
        classes_of: the training data, in the same forms; of two sources that name their classes,
            equal names get the numbers they have there.

    Returns:
        images, and labels as an int64 array (N,).

    Raises:
        ValueError: labels are absent, not one-dimensional, or not as many as the images.
    """
    if isinstance(data, Source) and isinstance(classes_of, Source):
        data = with_classes_of(data, classes_of)
    if hasattr(data, "arrays"):
        data = data.arrays(_source_size(data, image_size))
    if not isinstance(data, tuple | list) or len(data) != 2 or data[1] is None:
        raise ValueError(
            f"`{name}` must be a pair (images, labels) or a source with labels. "
            f"Received: {type(data).__name__} without labels. Pass labels for evaluation."
        )
    images, labels = data
    labels = np.asarray(keras.ops.convert_to_numpy(labels))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or (hasattr(images, "shape") and len(images) != len(labels)):
        raise ValueError(
            f"`{name}` must hold one integer label for each image. Received: images of shape "
            f"{getattr(images, 'shape', None)}, labels of shape {labels.shape}."
        )
    return images, labels.astype(np.int64)


def _batches(images: Any, batch_size: int, image_size: tuple[int, int] | None) -> Iterator:
    if hasattr(images, "batches"):  # a source: one batch at a time in memory
        size = _source_size(images, image_size)
        yield from (batch for batch, _ in images.batches(size, batch_size))
        return
    if hasattr(images, "shape") and hasattr(images, "__getitem__"):
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]
        return
    if not isinstance(images, Iterable):
        raise ValueError(
            "`images` must be an array, a source or an iterable of batches. "
            f"Received: {type(images).__name__}."
        )
    for batch in images:
        if isinstance(batch, dict):
            batch = batch["image"]
        elif isinstance(batch, tuple):
            batch = batch[0]
        batch = np.asarray(keras.ops.convert_to_numpy(batch))
        for start in range(0, len(batch), batch_size):
            yield batch[start : start + batch_size]


def _compiled(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The compiled form of a hook, where the model that it belongs to keeps one."""
    keep = getattr(getattr(encode, "__self__", None), "compiled_hook", None)
    return keep(encode) if keep else encode


def _encode_padded(encode: Callable[[Any], Any], batch: Any, size: int) -> np.ndarray:
    batch = np.asarray(keras.ops.convert_to_numpy(batch))
    count = len(batch)
    if count < size:
        filler = np.repeat(batch[-1:], size - count, axis=0)
        batch = np.concatenate([batch, filler])
    features = np.asarray(keras.ops.convert_to_numpy(encode(batch)))
    if features.ndim != 2 or len(features) != size:
        raise ValueError(
            "`encode` must return features of shape (batch, dimensions). Received: shape "
            f"{features.shape} for {size} images. Pool or flatten the features first."
        )
    return features[:count].astype(np.float32)


def _source_size(source: Any, image_size: tuple[int, int] | None) -> tuple[int, int]:
    size = image_size or tuple(source.image_shape[:2])
    if None in size:
        raise ValueError(
            "`image_size` must be given for a source whose images differ in size. Received: "
            f"image_size={image_size} and image_shape={tuple(source.image_shape)}. "
            "Pass image_size=(height, width)."
        )
    return size
