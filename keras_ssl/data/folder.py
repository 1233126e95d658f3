"""Source from a folder of image files."""

import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from keras_ssl.data import decoding, errors, fingerprints
from keras_ssl.data.corrupt import CorruptFiles
from keras_ssl.data.indexed import IndexedSource
from keras_ssl.ops.names import some

CORRUPT = 0.1  # default of `max_corrupt_fraction`
PIXELS = 100_000_000  # default of `max_pixels`
_SAMPLE = 64  # files inspected when the source is made
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def from_folder(
    path: str | os.PathLike,
    split: str | None = None,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
) -> IndexedSource:
    """Source of all images in a folder and in the folders below it, read from disk when needed.

    Labels, for evaluation only, are the names of the folders just below `path`, where every image
    lies in one of at least two; folders called train, val, test and the like are not taken for
    classes. Channels and type are those of a sample of up to 64 files: grey if all are grey, else
    RGB; float32 in [0, 1] if one has 16 bits, else uint8; transparency is dropped. `.npy` files
    `(height, width, channels)` may have any number of channels. Photographs are turned upright as
    their Exif data say.

    Links are followed, and each folder is read once, however many links lead to it. Files that
    cannot be read, or have more than `max_pixels` pixels, are skipped, logged and listed in
    `source.corrupt` and `source.corrupt_reasons`.

    Args:
        path: the folder.
        split: name of a folder in it that is taken instead, such as "train".
        max_corrupt_fraction: share of unreadable files above which reading stops with an error.
        max_pixels: height times width above which a file counts as unreadable; it is read off the
            header, so that a small file cannot fill the memory.

    Raises:
        ValueError: if there is no such folder, fewer than two images, too many unreadable files
            in the sample, or files of different numbers of channels that cannot be converted.
    """
    if not isinstance(max_pixels, int | np.integer) or max_pixels < 1:
        raise ValueError(f"`max_pixels` must be a positive integer. Received: {max_pixels!r}.")
    root = _root(pathlib.Path(path), split)
    files = _image_files(root)
    if len(files) < 2:
        raise ValueError(
            f"A folder of images needs at least 2 of them. Received: {len(files)} in {root}. "
            f"Files with these endings count, in the folders below too: {decoding.EXTENSIONS}."
        )
    names = [os.path.join(root, file) for file in files]
    sample = np.unique(np.linspace(0, len(files) - 1, _SAMPLE).astype(int))
    channels, dtype = _describe(names, sample, root)
    read = _reader(names, channels, dtype, int(max_pixels))
    corrupt = CorruptFiles(files, max_corrupt_fraction, lambda index: _reason(read, index))
    labels, class_names = _labels(files)
    return IndexedSource(
        read,
        len(files),
        labels=labels,
        files=corrupt,
        contents=lambda: fingerprints.of_files(root, files),
        name=str(root),
        image_shape=(None, None, channels),
        typical_size=_typical_size(read, sample, corrupt),
        dtype=dtype,
        class_names=class_names,
    )


def _root(path: pathlib.Path, split: str | None) -> pathlib.Path:
    root = path / split if split else path
    if not root.is_dir():
        found = (
            sorted(entry.name for entry in path.iterdir() if entry.is_dir())
            if split and path.is_dir()
            else None
        )
        hint = f" Folders in {path}: {found[:20]}." if found is not None else ""
        raise ValueError(f"There is no folder {root}.{hint}")
    return root


def _image_files(root: pathlib.Path) -> list[str]:
    """Paths of the images, relative to `root`, sorted; hidden files left out.

    Each folder is visited once: links to folders wait until all real ones were visited, so that a
    link never takes a real folder's images away.
    """
    files, skipped, visited = [], [], set()
    links = [""]
    for link in links:  # grows on the way
        folders = [link]
        while folders:
            folder = folders.pop()
            try:
                status = os.stat(root / folder)
                entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
            except OSError as error:
                skipped.append(f"{folder} ({error.strerror})")
                continue
            if (status.st_dev, status.st_ino) in visited:
                skipped.append(f"{folder} (a link to a folder already read)")
                continue
            visited.add((status.st_dev, status.st_ino))
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                if _is(entry.is_dir):
                    (links if entry.is_symlink() else folders).append(path)
                elif entry.name.lower().endswith(decoding.EXTENSIONS):
                    if _is(entry.is_file):  # not a pipe, which would be waited for, nor a dead link
                        files.append(path)
                    else:
                        skipped.append(f"{path} (no regular file)")
    if skipped:
        logging.warning("Skipped in %s: %s.", root, some([repr(name) for name in skipped]))
    _check_names(files, root)
    return sorted(files)


def _is(question: Callable[[], bool]) -> bool:
    """The answer of a folder's entry; False where a link leads to itself."""
    try:
        return question()
    except OSError:
        return False


def _check_names(files: list[str], root: pathlib.Path) -> None:
    """Raise where a name is not text: TensorFlow, logs and reports take no other."""
    wrong = [file for file in files if not _is_text(os.path.join(root, file))]
    if wrong:
        raise ValueError(
            f"Names of files and folders must be UTF-8. Received: {some(list(map(repr, wrong)))} "
            f"in {str(root)!r}. Rename them (for instance with `convmv -r -f latin1 -t utf8 "
            "--notest FOLDER`), or remove them."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _labels(files: list[str]) -> tuple[np.ndarray | None, list[str] | None]:
    first = [file.split(os.sep, 1)[0] if os.sep in file else "" for file in files]
    class_names = sorted(set(first))
    if len(class_names) < 2 or "" in class_names:
        return None, None
    if {name.lower() for name in class_names} <= _SPLITS:
        logging.info("Folders %s look like splits: no labels. Pass split=... for one.", class_names)
        return None, None
    numbers = {name: number for number, name in enumerate(class_names)}
    return np.array([numbers[name] for name in first], np.int64), class_names


def _describe(names: list[str], sample: np.ndarray, root: pathlib.Path) -> tuple[int, str]:
    """Channels and type for all files, from the headers of a sample."""
    described = []
    for index in sample:
        try:
            described.append(decoding.describe(names[index]))
        except Exception:  # of any kind in a damaged header; found again when it is decoded
            continue
    channels = {channels for channels, _ in described} or {3}
    if channels == {1, 3}:
        channels = {3}
    if len(channels) > 1:
        raise ValueError(
            f"Images of one source must have the same number of channels (grey and RGB may mix). "
            f"Received: {sorted(channels)} in {root}. Put them into separate folders."
        )
    floats = any(dtype == "float32" for _, dtype in described)
    return channels.pop(), "float32" if floats else "uint8"


def _reader(names: list[str], channels: int, dtype: str, max_pixels: int):
    readers = np.array([decoding.reader_of(name) for name in names], np.int32)
    kinds = set(readers.tolist())
    with tf.device("CPU:0"):
        paths, numbers = tf.constant(names), tf.constant(readers)

    def read(index: tf.Tensor) -> tf.Tensor:
        path, number = tf.gather(paths, index), tf.gather(numbers, index)
        return decoding.decode(path, number, kinds, channels, dtype, max_pixels)

    return read


def _typical_size(read, sample: np.ndarray, corrupt: CorruptFiles) -> tuple[int, int]:
    """Median height and width of the sample; unreadable files are reported."""
    shapes = tf.data.Dataset.from_tensor_slices(sample).map(
        lambda index: (index, tf.shape(read(index))), num_parallel_calls=tf.data.AUTOTUNE
    )
    shapes = list(shapes.ignore_errors(log_warning=False).as_numpy_iterator())
    unreadable = sorted(set(sample.tolist()) - {int(index) for index, _ in shapes})
    if unreadable:
        corrupt.report(np.array(unreadable))
    if not shapes:
        raise ValueError(
            f"None of {len(sample)} sampled image files can be read: "
            f"{some([f'{name}: {reason}' for name, reason in corrupt.reasons.items()])}. "
            "Repair or remove them."
        )
    height, width = np.median([shape[:2] for _, shape in shapes], axis=0)
    return int(height), int(width)


def _reason(read, index: int) -> str:
    """Why a file cannot be read."""
    try:
        read(tf.constant(index, tf.int64))
    except (tf.errors.OpError, ValueError) as error:
        return errors.reason(error)
    return "it could be read later"
