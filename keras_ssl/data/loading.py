"""`load`: a source from any kind of images."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data import folder, tfds_reader
from keras_ssl.data.arrays import from_array, from_npz
from keras_ssl.data.datasets import from_dataset
from keras_ssl.data.drawing import shapes
from keras_ssl.data.source import Source

_SHAPES = {"train": 5000, "test": 1000}


def load(
    spec: Any,
    *,
    split: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    download: bool = False,
    max_corrupt_fraction: float = folder.CORRUPT,
    max_pixels: int = folder.PIXELS,
) -> Source:
    """A `Source` from any kind of images.

    Args:
        spec: folder of images, `.npz` file, TFDS name, "shapes" (drawn images), array of images,
            `tf.data.Dataset`, or a `Source`.
        split: part of a TFDS data set, sub-folder of a folder, or "train" or "test" of an `.npz`
            and of `shapes` (5,000 and 1,000 images).
        image_size: pixels of `shapes`, 32 by default; all else keeps its own size.
        data_dir: where TFDS keeps its data.
        seed: of `shapes`.
        download: whether TFDS may download.
        max_corrupt_fraction: of a folder: share of unreadable files above which reading stops.
        max_pixels: of a folder: height times width above which a file counts as unreadable.

    Raises:
        ValueError: if `spec` is of another kind, or cannot be read.
    """
    check_image_size(image_size)
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, tf.data.Dataset):
        return from_dataset(spec)
    if isinstance(spec, str | os.PathLike):
        name = os.fspath(spec)
        if name == "shapes":
            return _shapes(split, image_size, seed)
        if os.path.isdir(name):
            return folder.from_folder(name, split, max_corrupt_fraction, max_pixels)
        if os.path.isfile(name):
            if name.endswith(".npz"):
                return from_npz(name, split)
            raise ValueError(
                f"A file of images must be an .npz. Received: {name}. Or pass a folder."
            )
        if tfds_reader.is_known(name, data_dir):
            return tfds_reader.from_tfds(name, split, data_dir, download)
        raise ValueError(
            f"{name!r} is neither a folder, nor an .npz file, nor a TFDS name."
            + tfds_reader.near_names(name)
        )
    if hasattr(spec, "__array__"):
        return from_array(np.asarray(spec))
    raise ValueError(
        "Images must be a folder, an .npz file, a TFDS name, 'shapes', an array, a tf.data.Dataset "
        f"or a Source. Received: {type(spec).__name__}."
    )


def check_image_size(image_size: Any) -> None:
    """Raise unless it is None, a positive integer, or two of them."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    valid = all(isinstance(x, int | np.integer) and x is not True and x >= 1 for x in sides)
    if image_size is not None and not (valid and len(sides) == 2):
        raise ValueError(
            "`image_size` must be a positive integer or (height, width). Received: "
            f"image_size={image_size!r}. Leave it out for the default."
        )


def _shapes(split: str | None, image_size: Any, seed: int) -> Source:
    part = split or "train"
    if part not in _SHAPES:
        raise ValueError(f"`split` of shapes must be 'train' or 'test'. Received: {split!r}.")
    first = 0 if part == "train" else _SHAPES["train"]
    return shapes(_SHAPES[part], 32 if image_size is None else image_size, seed, first=first)
