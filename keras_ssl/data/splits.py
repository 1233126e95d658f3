"""Images to train on, and labelled images to evaluate on."""

import os
from typing import Any

import numpy as np

from keras_ssl.data import folder
from keras_ssl.data.arrays import npz_names
from keras_ssl.data.classes import with_classes_of
from keras_ssl.data.loading import load
from keras_ssl.data.source import Source

_HELD_OUT = 0.1  # of the labelled images, where a data set brings no test split
_MOST_HELD_OUT = 2000
_TEST_FOLDERS = ("val", "valid", "validation", "test")


def splits(
    spec: Any,
    *,
    test: Any = None,
    image_size: int | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    download: bool = False,
    max_corrupt_fraction: float = folder.CORRUPT,
    max_pixels: int = folder.PIXELS,
) -> tuple[Source, Source | None]:
    """The training source of `spec`, and a labelled one that training does not see.

    The second is `test` if given; else the data set's own test split (TFDS "test" or "validation",
    `.npz` `x_test`, a folder `val` or `test` beside `train`, `shapes`); else a tenth of the images,
    at most 2,000, chosen by `seed` and excluded from training, if they have labels; else None. Its
    classes have the numbers of the training source's, by name.

    Args:
        spec: as `load` takes it.
        test: labelled images in the same forms.
        image_size: pixels of `shapes`.
        data_dir: where TFDS data sets lie.
        seed: of that choice.
        download: as in `load`.
        max_corrupt_fraction: as in `load`.
        max_pixels: as in `load`.

    Raises:
        ValueError: if a source cannot be read, or the held-out one has no labels where training has
            them.
    """
    options = {
        "image_size": image_size,
        "data_dir": data_dir,
        "download": download,
        "max_corrupt_fraction": max_corrupt_fraction,
        "max_pixels": max_pixels,
    }
    names = _own_splits(spec, data_dir, download)
    train = load(spec, split=names[0], **options)
    if test is not None:
        held_out = load(test, **options)
        if not held_out.has_labels:
            raise ValueError(
                f"`test` must have labels. Received: {held_out}. Pass a folder with one sub-folder "
                "a class, for instance, or leave `test` out."
            )
        return train, with_classes_of(held_out, train)
    if not train.has_labels:
        return train, None
    if names[1]:
        held_out = load(spec, split=names[1], **options)
        if not held_out.has_labels:
            raise ValueError(
                f"Held-out images must have labels, as those of {train.name} have. Received: "
                f"{held_out}. Sort them into one sub-folder a class (at least two), as there, or "
                f"move them elsewhere and pass the images to train on alone: {train.name}."
            )
        return train, with_classes_of(held_out, train)
    if not train.random_access:
        return train, None
    count = min(_MOST_HELD_OUT, int(_HELD_OUT * train.size))
    if count < 2 or train.size - count < 2:
        return train, None
    order = np.random.default_rng(seed).permutation(train.size)
    return train.subset(np.sort(order[count:])), train.subset(np.sort(order[:count]))


def _own_splits(spec: Any, data_dir: Any, download: bool) -> tuple[str | None, str | None]:
    """Names of the training and the test split that a data set brings, None where it has none."""
    if not isinstance(spec, str | os.PathLike):
        return None, None
    name = os.fspath(spec)
    if name == "shapes":
        return "train", "test"
    if os.path.isdir(name):
        folders = [f for f in _TEST_FOLDERS if os.path.isdir(os.path.join(name, f))]
        train = os.path.isdir(os.path.join(name, "train"))
        return ("train", folders[0]) if folders and train else (None, None)
    if name.endswith(".npz") and os.path.isfile(name):
        return ("train", "test") if "x_test" in npz_names(name) else (None, None)
    return None, _tfds_test(name, data_dir, download)


def _tfds_test(name: str, data_dir: Any, download: bool) -> str | None:
    from keras_ssl.data import tfds_reader

    if not tfds_reader.is_known(name, data_dir):
        return None
    known = tfds_reader.split_names(name, data_dir, download)
    return next((split for split in ("test", "validation") if split in known), None)
