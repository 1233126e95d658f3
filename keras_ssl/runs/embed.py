"""Features of images to a file: arrays, a table, or a map to browse."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from keras_ssl import data as data_module
from keras_ssl import evaluation
from keras_ssl.data.folder import CORRUPT, PIXELS
from keras_ssl.data.loading import check_image_size
from keras_ssl.encoders import check_channels, load_encoder
from keras_ssl.engine import inputs
from keras_ssl.ops.names import some
from keras_ssl.report import browser
from keras_ssl.runs import features_file
from keras_ssl.runs.features_file import Features

POINTS = 2000
_PIXEL = 48  # a larger side is smoothed where it is shown


def embed(
    encoder: Any,
    data: Any,
    out: Any,
    *,
    image_size: int | None = None,
    batch_size: int = 256,
    data_dir: Any = None,
    split: str | None = None,
    download: bool = False,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
    points: int = POINTS,
    allow_code: bool = False,
    seed: int = 0,
    verbose: bool = True,
) -> pathlib.Path:
    """Write the features of images to a file, or a map to browse them.

    Images are read and encoded batch by batch, in the order of their index, and brought to the
    encoder's size as for evaluation: the shorter side resized, the centre cut out. Unreadable files
    are left out and named. An existing file is replaced once the new one is whole.

    Args:
        encoder: a run folder of `pretrain`, a `.keras` file or the folder of a SavedModel; in
            Python also a model.
        data: a folder of images, a TFDS name, an `.npz` file, `shapes` (drawn here); in Python also
            an array, a `tf.data.Dataset` or a `keras_ssl.data.Source`.
        out: the file; its ending says what it will hold. `.npz`: the arrays features (float32,
            images by dimensions), index, and, where the images have them, files, labels and
            class_names. `.parquet` (needs pyarrow) and `.csv`: a row an image with file, index,
            label, class, and features (in CSV f0, f1, ...). `.html`: a map of the images, one page
            without network.
        image_size: height and width at which images are encoded, one number; by default those the
            encoder was trained with.
        batch_size: images encoded at once.
        data_dir: where TFDS data sets are stored.
        split: part of a TFDS data set, sub-folder of a folder, or train or test of an `.npz` and of
            `shapes`.
        download: whether TFDS may download and prepare a data set that is not there.
        max_corrupt_fraction: share of unreadable image files above which nothing is written.
        max_pixels: pixels of an image file above which it counts as unreadable.
        points: images on the map at most; of more, a random choice. The page's size, and the
            time that it takes to make, grow with them.
        allow_code: whether a `.keras` file may bring code of its own (Lambda layers), which runs
            when the file is loaded: for files that you trust.
        seed: of the choice of images for the map, and of `shapes`.
        verbose: whether to show progress and say what was written.

    Returns:
        The path of the file.

    Raises:
        ValueError: for an encoder, images or an output file that cannot be used, and where the
            encoder gives NaN or infinity.
        ImportError: for `.parquet` without pyarrow.
        RuntimeError: if the file cannot be written to its end.
    """
    ending = features_file.ending_of(out)
    _check_numbers(batch_size=batch_size, points=points)
    path = pathlib.Path(out)
    network = load_encoder(encoder, allow_code=allow_code)
    size = _size(network, image_size)
    source = data_module.load(
        data,
        split=split,
        image_size=size,
        data_dir=data_dir,
        seed=seed,
        download=download,
        max_corrupt_fraction=max_corrupt_fraction,
        max_pixels=max_pixels,
    )
    check_channels(network, source)
    on_map = np.zeros(source.size, bool)
    if ending == ".html":
        on_map[np.random.default_rng(seed).permutation(source.size)[:points]] = True
    with features_file.whole(path) as file:
        table, pictures = _encode(network, source, size, batch_size, on_map, verbose)
        skipped = _skipped(source, table.index)
        if ending == ".html":
            page = _page(encoder, source, table, pictures, on_map, seed, skipped, max(size))
            file.write(page.encode())
        else:
            features_file.write(file, ending, table)
    if skipped:
        print(skipped)  # even where little is to be said
    if verbose:
        count, width = table.features.shape
        print(f"{count} images, {width} features each: {path}")
    return path


def _check_numbers(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value is True or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}.")


def _size(network: keras.Model, image_size: Any) -> tuple[int, int]:
    """Height and width at which to encode."""
    check_image_size(image_size)
    if image_size is None:
        return tuple(network.image_shape[:2])
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    taken = tuple(network.network.input_shape[1:3])
    if any(a not in (None, b) for a, b in zip(taken, size)):
        raise ValueError(
            f"`image_size` must be the encoder's: it takes images of {taken} alone. Received: "
            f"image_size={image_size}. Leave it out, and images are brought to that size."
        )
    return size


def _encode(
    network: keras.Model,
    source: data_module.Source,
    size: tuple[int, int],
    batch_size: int,
    on_map: np.ndarray,
    verbose: bool,
) -> tuple[Features, list[str]]:
    """Features of all readable images, and small pictures of those on the map."""
    index: list[np.ndarray] = []
    pictures: list[str] = []

    def batches() -> Iterator[np.ndarray]:
        with tqdm(total=source.size, unit="image", disable=not verbose) as bar:
            for images, numbers in source.batches(size, batch_size):
                index.append(numbers)
                pictures.extend(browser.thumbnail(image) for image in images[on_map[numbers]])
                yield images
                bar.update(len(images))
            bar.total = bar.n  # without the unreadable ones
            bar.refresh()

    def encode(images: np.ndarray) -> np.ndarray:
        features = np.asarray(network.predict_on_batch(images), np.float32)
        if not np.isfinite(features).all():
            raise ValueError(
                "The encoder gives NaN or infinity. Received: such features of images "
                f"{index[-1][0]} to {index[-1][-1]} of {source.name}. Its training has diverged, "
                "or its precision is too low: take another."
            )
        return features

    with inputs.plain_errors():
        features = evaluation.extract(encode, batches(), batch_size)
    rows = np.concatenate(index)
    files, labels = source.files, source.labels
    table = Features(
        features,
        rows,
        None if files is None else [files[i] for i in rows],
        None if labels is None else np.asarray(labels)[rows],
        source.class_names,
    )
    return table, pictures


def _skipped(source: data_module.Source, index: np.ndarray) -> str:
    """A sentence on the files that could not be read; empty without such."""
    if source.files is None or len(index) == source.size:
        return ""
    missing = np.setdiff1d(np.arange(source.size), index)
    reasons = source.corrupt_reasons
    named = [source.files[i] for i in missing]
    named = [f"{name} ({reasons[name]})" if name in reasons else name for name in named]
    return f"Unreadable files, left out: {len(named)}: {some(named)}."


def _page(
    encoder: Any,
    source: data_module.Source,
    table: Features,
    pictures: list[str],
    on_map: np.ndarray,
    seed: int,
    skipped: str,
    side: int,
) -> str:
    rows = on_map[table.index]
    count, total = int(rows.sum()), len(rows)
    name = os.fspath(encoder) if isinstance(encoder, str | os.PathLike) else encoder.name
    chosen = f"{count:,} images"
    if count < total:
        chosen = f"{count:,} of {total:,} images, chosen at random (seed {seed})"
    note = f"{chosen}; {table.features.shape[1]} features each, by {name}. {skipped}"
    return browser.page(
        table.features[rows],
        pictures,
        title=f"Map of {source.name}",
        note=note.strip(),
        pixel=side < _PIXEL,
        index=table.index[rows],
        files=None if table.files is None else np.array(table.files, dtype=object)[rows],
        labels=None if table.labels is None else table.labels[rows],
        class_names=table.class_names,
    )
