"""Sources: where images come from, and in which order."""

import abc
import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_ssl.data import evaluation_images, fingerprints

_FRONT = 20_000  # of a sequence: evaluation chooses among its first images


class Source(abc.ABC):
    """Images with an index each; made by `data.load` or one of `data.from_*`.

    Attributes:
        name: for messages and logs.
        size: number of images.
        image_shape: (height, width, channels); height and width None where images differ.
        typical_size: (height, width); the median of a sample where images differ.
        dtype: "uint8" (0 to 255) or "float32" (0 to 1).
        class_names: list of names by label, or None.
        random_access: whether image i can be read without those before it.
        batch_size: of the `tf.data.Dataset` the source was made from, if that was batched.
    """

    random_access: bool

    def __init__(
        self,
        size: int,
        *,
        name: str,
        image_shape: tuple[int | None, int | None, int],
        typical_size: tuple[int, int],
        dtype: str,
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> None:
        if size < 2:
            raise ValueError(
                f"Self-supervised training needs at least 2 images. Received: {size} in {name}."
            )
        self.size, self.name, self.dtype, self.batch_size = int(size), name, dtype, batch_size
        self.image_shape, self.typical_size = tuple(image_shape), tuple(typical_size)
        self.class_names = list(class_names) if class_names is not None else None

    @property
    @abc.abstractmethod
    def labels(self) -> np.ndarray | None:
        """Integer labels by index (int64), for evaluation only; None where there are none."""

    @property
    def has_labels(self) -> bool:
        """Whether there are labels; unlike `labels`, never reads them."""
        return self.labels is not None

    @property
    def files(self) -> list[str] | None:
        """Names of the image files by index, within their folder; None where there are none."""
        return None

    @property
    def corrupt(self) -> list[str]:
        """Names of the files found unreadable so far."""
        return []

    @property
    def corrupt_reasons(self) -> dict[str, str]:
        """Why each of them is unreadable, by name."""
        return {}

    @property
    def replaces_unreadable(self) -> bool:
        """Whether the stream may get another image in the place of an unreadable one."""
        return False

    @abc.abstractmethod
    def ordered(self) -> tf.data.Dataset:
        """`{"image", "index"}` in the order of the index; unreadable images are left out."""

    @abc.abstractmethod
    def shuffled(self, seed: int, epoch: tf.Tensor | int) -> tf.data.Dataset:
        """`{"image", "index"}` in an order that is a function of (seed, epoch)."""

    def subset(self, indices: np.ndarray) -> "Source":
        """The source of the images at `indices` alone, renumbered from 0."""
        raise ValueError(
            f"Only sources with random access have subsets; {self.name} is read in sequence. "
            "Take the part in the dataset itself, or pass an array or a folder."
        )

    def renumbered(self, numbers: np.ndarray, class_names: Sequence[str]) -> "Source":
        """The same images with label `numbers[i]` in the place of i; negative labels stay."""
        other = copy.copy(self)
        other.class_names = list(class_names)
        other._renumber(lambda labels: np.where(labels < 0, labels, numbers[labels]))
        return other

    @abc.abstractmethod
    def _renumber(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Pass all labels through `change` from now on."""

    def arrays(
        self, image_size: tuple[int, int], limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Images for evaluation: shorter side resized, centre cropped to (height, width).

        Returns:
            Images `(n, height, width, channels)` of the source's dtype in the order of their
            index, and their labels or None. With `limit`, a fixed random choice of that many; if
            images are read in sequence, among the first 20,000, or `limit` if that is more.
        """
        # A sequence is not read to its end for a few images of its first part.
        reach = self.size if self.random_access else min(self.size, max(limit or self.size, _FRONT))
        chosen = evaluation_images.choose(reach, limit)
        images, indices = evaluation_images.collect(
            self._chosen(chosen), image_size, self.dtype, self.name
        )
        return images, self.labels_at(indices) if self.has_labels else None

    def batches(
        self, image_size: tuple[int, int], batch_size: int = 256
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All images in the order of their index, resized as by `arrays`, a batch at a time.

        This is what work between epochs reads (`SSLModel.begin_epoch`), such as k-means over all
        features. Unreadable images are left out.

        Yields:
            Images `(n, height, width, channels)` of the source's dtype, and their indices `(n,)`.
        """
        return evaluation_images.batches(
            self.ordered(), image_size, self.dtype, self.name, batch_size
        )

    def fingerprint(self) -> dict:
        """What tells these images from others: a JSON-able dict of checksums.

        The same images give the same, wherever they lie.

        Returns:
            "size", the number of images, and "digest": of an array, of all its bytes and labels; of
            a folder, of the bytes of up to 1,000 files, and beside it "names" (names and sizes of
            all files) and "times" (when they were modified; a copy need not keep them); else, of
            64 decoded images and their labels. Of a subset also "indices".
        """
        return {"size": self.size, **fingerprints.of_images(self)}

    def labels_at(self, indices: np.ndarray) -> np.ndarray:
        """The labels of the images at `indices`."""
        return self.labels[indices]

    @abc.abstractmethod
    def _chosen(self, indices: np.ndarray) -> tf.data.Dataset:
        """`ordered()`, `indices` (increasing) alone."""

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name}: {self.size} images, "
            f"shape={self.image_shape}, dtype={self.dtype}>"
        )
