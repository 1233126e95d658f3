"""Files of features: `.npz`, `.parquet`, `.csv`, written whole or not at all."""

import contextlib
import csv
import dataclasses
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

ENDINGS = (".npz", ".parquet", ".csv", ".html")
_NAMES = ".npz (arrays), .parquet, .csv (tables) or .html (a map to browse)"


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of images, a row each.

    Attributes:
        features: float32 (N, D).
        index: number of each image in its source, int64 (N,).
        files: name of each image file, or None.
        labels: int64 (N,), negative where an image has none; or None.
        class_names: name of each class, or None.
    """

    features: np.ndarray
    index: np.ndarray
    files: Sequence[str] | None = None
    labels: np.ndarray | None = None
    class_names: Sequence[str] | None = None

    @property
    def classes(self) -> list[str | None]:
        """The name of each image's class; None where it has none."""
        names = self.class_names or []
        labels = [-1] * len(self.index) if self.labels is None else self.labels.tolist()
        return [names[label] if 0 <= label < len(names) else None for label in labels]


def ending_of(out: Any) -> str:
    """Which kind of file `out` names.

    Raises:
        ValueError: if `out` is no path, or ends otherwise.
        ImportError: if the kind needs a package that is absent.
    """
    if not isinstance(out, str | os.PathLike):
        raise ValueError(
            f"`out` must be the path of a file: {_NAMES}. Received: out={out!r}. Use "
            "out='features.npz'."
        )
    ending = pathlib.PurePath(out).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"`out` must end in {_NAMES}. Received: {os.fspath(out)}. Use one of these endings."
        )
    if ending == ".parquet":
        _pyarrow()
    return ending


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end; after an error nothing is left.

    Raises:
        ValueError: at once, if there can be no such file.
        RuntimeError: if it cannot be written to its end.
    """
    made = [folder for folder in path.parents if not folder.exists()]  # innermost first
    name = None
    try:
        try:
            _check_place(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".features-", suffix=".partial")
        except OSError as error:
            raise ValueError(
                f"`out` must be a file that can be written. Received: {path} ({error.strerror}). "
                "Choose another path."
            ) from error
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.chmod(name, 0o644)
            os.replace(name, path)
        except OSError as error:
            raise RuntimeError(
                f"{path} could not be written: {error.strerror or error}. What lay there before is "
                "unchanged. Free some space, or choose another `out`."
            ) from error
    except BaseException:
        if name is not None:
            pathlib.Path(name).unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not made, or used by others since
                folder.rmdir()
        raise


def _check_place(path: pathlib.Path) -> None:
    """Raise OSError for a name too long or under a file, ValueError for a folder."""
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
    if path.is_dir():
        raise ValueError(
            f"`out` must be a file. Received: {path}, a folder. Name a file in it, such as "
            f"{path / 'features.npz'}."
        )


def write(file: BinaryIO, ending: str, table: Features) -> None:
    """Write features in the form that `ending` names, one of .npz, .parquet and .csv."""
    {".npz": _npz, ".parquet": _parquet, ".csv": _csv}[ending](file, table)


def _npz(file: BinaryIO, table: Features) -> None:
    arrays = {"features": table.features, "index": table.index}
    if table.files is not None:
        arrays["files"] = np.array(table.files, dtype=str)
    if table.labels is not None:
        arrays["labels"] = table.labels
    if table.class_names is not None:
        arrays["class_names"] = np.array(table.class_names, dtype=str)
    np.savez(file, **arrays)


def _parquet(file: BinaryIO, table: Features) -> None:
    pyarrow, parquet = _pyarrow()
    count, width = table.features.shape
    numbers = pyarrow.array(table.features.reshape(-1))
    columns = {
        "file": pyarrow.array(table.files or [None] * count, pyarrow.string()),
        "index": pyarrow.array(table.index),
        "label": pyarrow.array(_labels(table), pyarrow.int64()),
        "class": pyarrow.array(table.classes, pyarrow.string()),
        "features": pyarrow.FixedSizeListArray.from_arrays(numbers, width),
    }
    parquet.write_table(pyarrow.table(columns), file)


def _csv(file: BinaryIO, table: Features) -> None:
    width = table.features.shape[1]
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(["file", "index", "label", "class", *(f"f{i}" for i in range(width))])
    columns = (table.files or [""] * len(table.index), table.index.tolist(), _labels(table))
    for *row, features in zip(*columns, table.classes, table.features, strict=True):
        # As text, a float32 has the fewest digits from which it can be read back.
        writer.writerow([*row, *map(str, features)])
    text.detach()


def _labels(table: Features) -> list[int | None]:
    return [None] * len(table.index) if table.labels is None else table.labels.tolist()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            ".parquet files are written by pyarrow, which is not installed. pip install pyarrow, "
            "or choose an `out` that ends in .npz or .csv."
        ) from error
    return pyarrow, parquet
