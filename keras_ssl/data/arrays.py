"""Sources from arrays in memory and `.npz` files."""

import contextlib
import os
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from keras_ssl.data import fingerprints
from keras_ssl.data.indexed import IndexedSource
from keras_ssl.data.layout import SLACK, check_channels_last

_CHUNK = 1024
_NPZ_KEYS = {
    "train": (("images", "labels"), ("x_train", "y_train")),
    "test": (("x_test", "y_test"),),
}


def from_array(
    images: np.ndarray, labels: np.ndarray | None = None, name: str = "array"
) -> IndexedSource:
    """Source of images in memory.

    Args:
        images: `(n, height, width, channels)` or, grey, `(n, height, width)`; uint8, uint16
            (divided by 65535) or float in [0, 1].
        labels: whole numbers `(n,)` or `(n, 1)`, used for evaluation only.
        name: for messages.

    Raises:
        ValueError: if shape, type or values are invalid, or the labels do not match the images.
    """
    images = checked_images(images, name)
    if labels is not None:
        labels = checked_labels(labels, len(images), name)
    # One tensor in host memory, shared by the pipelines of all epochs; not copied to a GPU.
    with tf.device("CPU:0"):
        tensor = tf.constant(images)
    return IndexedSource(
        lambda index: tf.gather(tensor, index),
        len(images),
        labels=labels,
        contents=lambda: fingerprints.of_arrays(np.asarray(memoryview(tensor)), labels),
        name=name,
        image_shape=images.shape[1:],
        typical_size=images.shape[1:3],
        dtype=images.dtype.name,
    )


def from_npz(path: str | os.PathLike, split: str | None = None) -> IndexedSource:
    """Source from a `.npz` file: `images` (and `labels`), `x_train` (`y_train`), or one array.

    Args:
        path: the file.
        split: "train" (default) or "test", which takes `x_test` (and `y_test`).

    Raises:
        ValueError: if the file holds no such arrays.
    """
    path = os.fspath(path)
    if split not in (None, *_NPZ_KEYS):
        raise ValueError(f"`split` of an .npz must be 'train' or 'test'. Received: {split!r}.")
    keys = _npz_keys(npz_names(path), split, path)
    with _npz_errors(path), np.load(path, allow_pickle=False) as file:
        arrays = [file[key] if key in file else None for key in keys]
    return from_array(*arrays, name=path)


def npz_names(path: str) -> list[str]:
    """Names of the arrays in a `.npz` file.

    Raises:
        ValueError: if the file is none.
    """
    with _npz_errors(path):
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no .npz, or the end of it is missing")
        with np.load(path, allow_pickle=False) as file:
            return list(file.keys())


@contextlib.contextmanager
def _npz_errors(path: str):
    """Whatever NumPy and zlib raise on a damaged file, as one error without their advice."""
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        objects = "Object arrays" in str(error)
        reason = "an array in it holds Python objects" if objects else error
        raise ValueError(
            f"{path} cannot be read as .npz: {reason}. Write it anew with np.savez(path, "
            "images=images, labels=labels), where both are arrays of numbers."
        ) from None


def _npz_keys(keys: list[str], split: str | None, path: str) -> tuple[str, str]:
    for pair in _NPZ_KEYS[split or "train"]:
        if pair[0] in keys:
            return pair
    if len(keys) == 1 and split is None:
        return keys[0], ""
    raise ValueError(
        f"{path} must hold the arrays 'images' (and 'labels'), 'x_train' (and 'y_train'; 'x_test', "
        f"'y_test' for split='test'), or a single array. Received: {keys}, split={split!r}."
    )


def checked_images(images: np.ndarray, name: str) -> np.ndarray:
    """`images` as `(n, height, width, channels)`, uint8 or float32 in [0, 1]."""
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] > 4:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"Images must be of shape (n, height, width, channels), or (n, height, width) if grey. "
            f"Received: {name} of shape {images.shape}."
        )
    check_channels_last(images.shape, name, "np.transpose(images, (0, 2, 3, 1))")
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.uint16:
        return images.astype(np.float32) / 65535
    if images.dtype.kind != "f":
        raise ValueError(
            f"Images must be uint8 (0 to 255), uint16 or float (0 to 1). Received: {name} of type "
            f"{images.dtype}. Use images.astype('uint8') if the values run from 0 to 255."
        )
    return _checked_floats(images, name)


def _checked_floats(images: np.ndarray, name: str) -> np.ndarray:
    images = images.astype(np.float32, copy=False)
    parts = range(0, len(images), _CHUNK)
    # In parts: the comparisons of the whole would need as much memory again as the images.
    low = min((float(images[i : i + _CHUNK].min()) for i in parts), default=0.0)
    high = max((float(images[i : i + _CHUNK].max()) for i in parts), default=0.0)
    if not all(np.isfinite(images[i : i + _CHUNK]).all() for i in parts):
        raise ValueError(
            f"Images must be finite. Received: NaN or infinity in {name}. "
            "Find them with np.where(~np.isfinite(images))."
        )
    if low < -SLACK or high > 1 + SLACK:
        raise ValueError(
            f"Float images must lie in [0, 1]. Received: {name} from {low:.6g} to {high:.6g}. "
            "Divide images in 0 to 255 by 255, undo a normalisation, or pass uint8."
        )
    return np.clip(images, 0, 1) if low < 0 or high > 1 else images


def checked_labels(labels: np.ndarray, size: int, name: str) -> np.ndarray:
    """`labels` as int64 `(size,)`."""
    labels = np.asarray(labels)
    if labels.shape == (size, 1):
        labels = labels[:, 0]
    if labels.shape != (size,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Labels must be whole numbers of shape ({size},), one an image. "
            f"Received: shape={labels.shape}, dtype={labels.dtype} in {name}."
        )
    return labels.astype(np.int64)
