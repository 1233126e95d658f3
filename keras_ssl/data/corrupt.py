"""Bookkeeping of files that could not be read."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from keras_ssl.ops.names import some


class CorruptFiles:
    """Files found unreadable so far, each counted and logged once; too many are an error.

    Args:
        names: names of all files, by index.
        max_fraction: largest share of files that may be unreadable.
        why: from the index of an unreadable file to the reason.
    """

    def __init__(
        self, names: Sequence[str], max_fraction: float, why: Callable[[int], str]
    ) -> None:
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                f"`max_corrupt_fraction` must be from 0 to 1. Received: {max_fraction}."
            )
        self._names, self._max_fraction, self._why = names, max_fraction, why
        self._found: dict[int, str] = {}  # reasons, in the order in which the files were found
        self._lock = threading.Lock()  # tf.data calls `report` from several threads

    @property
    def names(self) -> Sequence[str]:
        """Names of all files, by index."""
        return self._names

    @property
    def reasons(self) -> dict[str, str]:
        """Why each unreadable file could not be read, by name, in the order of finding them."""
        return {self._names[index]: reason for index, reason in list(self._found.items())}

    def report(self, indices: np.ndarray) -> np.int64:
        """Register unreadable files; returns how many are known.

        Raises:
            ValueError: if they exceed `max_fraction` of all files, or are all files.
        """
        with self._lock:
            for index in np.atleast_1d(indices).tolist():
                if index not in self._found:
                    self._found[index] = self._why(index)
                    logging.warning(
                        "Skipping an unreadable image (%d so far): %s: %s",
                        len(self._found),
                        self._names[index],
                        self._found[index],
                    )
            found, size = len(self._found), len(self._names)
            if found > self._max_fraction * size or found == size:
                raise ValueError(self._message(found, size))
            return np.int64(found)

    def _message(self, found: int, size: int) -> str:
        named = [f"{name}: {reason}" for name, reason in self.reasons.items()]
        return (
            f"{found} of {size} image files cannot be read, more than "
            f"max_corrupt_fraction={self._max_fraction} allows:\n  "
            f"{some(named, separator=chr(10) + '  ')}\n"
            "Repair or remove them, or allow more with max_corrupt_fraction."
        )
