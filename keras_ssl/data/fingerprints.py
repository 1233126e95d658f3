"""What tells the images of one source from those of another: JSON-able dicts of checksums."""

import os
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

_FILES = 1000  # of a folder, whose bytes are read
_CHUNK = 2**20  # bytes read at once
_IMAGES = 64  # of a source that is neither files nor an array
_LARGEST = 32  # pixels of their sides


def of_files(root: os.PathLike, files: Sequence[str]) -> dict:
    """Of image files, wherever the folder lies.

    Args:
        root: the folder.
        files: paths in it, sorted.

    Returns:
        "names" of the names and byte sizes of all files; "digest" of the bytes of up to 1,000
        files, evenly spaced; and "times" of all modification times, which a copy need not keep.
    """
    status = [_status(os.path.join(root, file)) for file in files]
    names = (f"{file.replace(os.sep, '/')}\0{size}\n" for file, (size, _) in zip(files, status))
    times = np.array([time for _, time in status], np.int64)
    sample = np.unique(np.linspace(0, len(files) - 1, _FILES).astype(int))
    return {
        "names": _checksum(name.encode() for name in names),
        "digest": _checksum(
            part for index in sample for part in _parts(os.path.join(root, files[index]))
        ),
        "times": zlib.crc32(times),
    }


def of_arrays(*arrays: np.ndarray | None) -> dict:
    """Of shapes, types and all bytes; None counts as absent."""
    parts = []
    for array in arrays:
        parts.append(b"none" if array is None else f"{array.shape} {array.dtype}".encode())
        parts.append(b"" if array is None else np.ascontiguousarray(array).reshape(-1).view("u1"))
    return {"digest": _checksum(parts)}


def of_images(source) -> dict:
    """Of 64 images of a source, small, and their labels."""
    height, width = (min(_LARGEST, side) for side in source.typical_size)
    return of_arrays(*source.arrays((height, width), limit=_IMAGES))


def _status(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; -1 of a file that is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _parts(path: str) -> Iterable[bytes]:
    try:
        with open(path, "rb") as file:
            while part := file.read(_CHUNK):
                yield part
    except OSError:  # a file that cannot be read is one of those that training skips
        yield b"unreadable"


def _checksum(parts: Iterable) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total
