"""Bookkeeping of files that could not be read."""

import threading
from collections.abc import Sequence

import numpy as np
from absl import logging

_NAMED = 5  # files an error names


class CorruptFiles:
    """Files found unreadable so far, each counted and logged once; too many are an error.

    Args:
        names: names of all files, by index.
        max_fraction: largest share of files that may be unreadable.
    """

    def __init__(self, names: Sequence[str], max_fraction: float) -> None:
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                f"`max_corrupt_fraction` must be from 0 to 1. Received: {max_fraction}."
            )
        self._names, self._max_fraction = names, max_fraction
        self._found: dict[int, None] = {}  # a set that keeps its order
        self._lock = threading.Lock()  # tf.data calls `report` from several threads

    @property
    def names(self) -> list[str]:
        """Names of the unreadable files, in the order in which they were found."""
        return [self._names[index] for index in list(self._found)]

    def report(self, indices: np.ndarray, reason: str = "") -> np.int64:
        """Register unreadable files; returns how many are known. `reason`: why the first failed.

        Raises:
            ValueError: if they exceed `max_fraction` of all files, or are all files.
        """
        with self._lock:
            for index in np.atleast_1d(indices).tolist():
                if index not in self._found:
                    self._found[index] = None
                    logging.warning(
                        "Skipping an unreadable image (%d so far): %s",
                        len(self._found),
                        self._names[index],
                    )
            found, size = len(self._found), len(self._names)
            if found > self._max_fraction * size or found == size:
                raise ValueError(self._message(found, size, reason))
            return np.int64(found)

    def _message(self, found: int, size: int, reason: str) -> str:
        names = "\n  ".join(self.names[:_NAMED])
        more = f"\n  and {found - _NAMED} more" if found > _NAMED else ""
        return (
            f"{found} of {size} image files cannot be read, more than "
            f"max_corrupt_fraction={self._max_fraction} allows:\n  {names}{more}\n"
            f"{reason and f'The first: {reason}'}\n"
            "Repair or remove them, or allow more: data.from_folder(..., max_corrupt_fraction=...)."
        )
