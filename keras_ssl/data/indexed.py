"""Sources whose images can be read in any order."""

import copy
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data import errors, seeds
from keras_ssl.data.corrupt import CorruptFiles
from keras_ssl.data.source import Source

_ATTEMPTS = 16  # images tried in the place of one that cannot be read


class IndexedSource(Source):
    """A source with random access.

    Args:
        read: from a scalar int64 tensor, the index, to the image; used inside `tf.data`.
        size: number of images.
        labels: integers by index, or None.
        files: bookkeeping of unreadable files, if `read` may fail; else None.
        contents: gives the part of the fingerprint that all subsets share; None to look at images.
        origin: for each index of this source, the index that `read` takes; None if they are equal.
        **description: as `Source`.
    """

    random_access = True

    def __init__(
        self,
        read: Callable[[tf.Tensor], tf.Tensor],
        size: int,
        *,
        labels: np.ndarray | None = None,
        files: CorruptFiles | None = None,
        contents: Callable[[], dict] | None = None,
        origin: np.ndarray | None = None,
        **description: Any,
    ) -> None:
        super().__init__(size, **description)
        self._read, self._files, self._labels = read, files, labels
        self._contents, self._origin = contents, origin
        with tf.device("CPU:0"):
            self._origin_tensor = None if origin is None else tf.constant(origin, tf.int64)

    @property
    def labels(self) -> np.ndarray | None:
        """Integer labels by index (int64), for evaluation only; None where there are none."""
        return self._labels

    @property
    def files(self) -> list[str] | None:
        """Names of the image files by index, within their folder; None where there are none."""
        if self._files is None:
            return None
        names = self._files.names
        return [names[i] for i in (range(self.size) if self._origin is None else self._origin)]

    @property
    def corrupt(self) -> list[str]:
        """Names of the files found unreadable so far."""
        return list(self.corrupt_reasons)

    @property
    def corrupt_reasons(self) -> dict[str, str]:
        """Why each of them is unreadable, by name."""
        return self._files.reasons if self._files else {}

    @property
    def replaces_unreadable(self) -> bool:
        """Whether `fetch` may return another image than the one requested."""
        return self._files is not None

    def ordered(self) -> tf.data.Dataset:
        """`{"image", "index"}` in the order of the index; unreadable images are left out."""
        return self._elements(tf.range(self.size, dtype=tf.int64))

    def shuffled(self, seed: int, epoch: tf.Tensor | int) -> tf.data.Dataset:
        """`{"image", "index"}` in an order that is a function of (seed, epoch)."""
        return self._elements(self.order(seed, epoch))

    def order(self, seed: int, epoch: tf.Tensor | int) -> tf.Tensor:
        """All indices (int64) in the order of an epoch."""
        key = seeds.epoch_seed(seed, seeds.ORDER, epoch)
        return tf.random.experimental.stateless_shuffle(tf.range(self.size, dtype=tf.int64), key)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image `index`; TensorFlow's error where it is unreadable."""
        return self._read(self._to_origin(index))

    def fetch(self, index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Image `index`, or if that is unreadable one chosen by `seed`; and the image's index."""
        if not self.replaces_unreadable:
            return self.read(index), index
        others = tf.raw_ops.StatelessRandomUniformFullInt(
            shape=[_ATTEMPTS - 1], seed=seed + seeds.REPLACEMENT, dtype=tf.int64
        )
        candidates = tf.concat([[index], tf.math.floormod(others, self.size)], 0)
        image, attempt = self._first_readable(candidates)
        return image, candidates[tf.minimum(attempt, _ATTEMPTS - 1)]

    def subset(self, indices: np.ndarray) -> "IndexedSource":
        """The source of the images at `indices` alone, renumbered from 0."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise ValueError(
                "`indices` must be a list of whole numbers. "
                f"Received: shape={indices.shape}, dtype={indices.dtype}."
            )
        if len(indices) and not (0 <= indices.min() and indices.max() < self.size):
            raise ValueError(
                f"`indices` must lie from 0 to {self.size - 1}. "
                f"Received: {indices.min()} to {indices.max()}."
            )
        return IndexedSource(
            self._read,
            len(indices),
            labels=None if self._labels is None else self._labels[indices],
            files=self._files,
            contents=self._contents,
            origin=indices if self._origin is None else self._origin[indices],
            name=self.name,
            image_shape=self.image_shape,
            typical_size=self.typical_size,
            dtype=self.dtype,
            class_names=self.class_names,
        )

    def with_labels_at(self, indices: np.ndarray) -> "IndexedSource":
        """The same images, of which those at `indices` alone keep their labels; others get -1.

        That is how `Auxiliary` knows images without a label.
        """
        if self._labels is None:
            raise ValueError(f"There must be labels to keep. Received: {self.name}, without any.")
        kept = np.zeros(self.size, bool)
        kept[np.asarray(indices)] = True
        other = copy.copy(self)
        other._labels = np.where(kept, self._labels, -1)
        return other

    def fingerprint(self) -> dict:
        """What tells these images from others; see `Source`."""
        if self._contents is None:
            return super().fingerprint()
        part = self._origin
        indices = {} if part is None else {"indices": zlib.crc32(part.astype(np.int64))}
        return {"size": self.size, **self._contents(), **indices}

    def _renumber(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._labels = None if self._labels is None else change(self._labels)

    def _to_origin(self, index: tf.Tensor) -> tf.Tensor:
        return index if self._origin_tensor is None else tf.gather(self._origin_tensor, index)

    def _chosen(self, indices: np.ndarray) -> tf.data.Dataset:
        return self._elements(tf.constant(indices, tf.int64))

    def _elements(self, indices: tf.Tensor) -> tf.data.Dataset:
        """`{"image", "index"}` of the images at `indices`; unreadable ones are reported."""

        def read(place: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"image": self.read(index), "index": index, "place": place}

        def report_gap(expected: tf.Tensor, element: dict) -> tuple[tf.Tensor, dict]:
            place = element["place"]
            failed = self._to_origin(indices[expected:place])
            with tf.control_dependencies([self._report(failed)]):
                image = tf.identity(element["image"])
            return place + 1, {"image": image, "index": element["index"]}

        elements = tf.data.Dataset.from_tensor_slices(indices).enumerate()
        elements = elements.map(read, num_parallel_calls=tf.data.AUTOTUNE)
        if self._files is None:
            return elements.map(lambda element: {k: element[k] for k in ("image", "index")})
        # An element that fails is left out, and shows as a gap between the places around it. The
        # last, without an image, closes a gap at the end.
        end = {
            "image": tf.zeros([side or 0 for side in self.image_shape], self.dtype),
            "index": tf.constant(-1, tf.int64),
            "place": tf.size(indices, out_type=tf.int64),
        }
        elements = elements.ignore_errors(log_warning=False)
        elements = elements.concatenate(tf.data.Dataset.from_tensors(end))
        found = elements.scan(tf.constant(0, tf.int64), report_gap)
        return found.filter(lambda element: element["index"] >= 0)

    def _report(self, origins: tf.Tensor) -> tf.Tensor:
        """Count files as unreadable; to be a control dependency, as nobody uses the value."""
        report = errors.raises_in_graph(self._files.report)
        return tf.cond(
            tf.size(origins) > 0,
            lambda: tf.numpy_function(report, [origins], tf.int64),
            lambda: tf.constant(0, tf.int64),
        )

    def _first_readable(self, candidates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """First readable image among `candidates`, and its place there.

        Without one: an image without pixels, and the number of candidates.
        """
        # A data set with `ignore_errors` is TensorFlow's only way to continue after a failed kernel
        # in a graph. It is lazy: the second candidate is read only if the first fails.
        origins = self._to_origin(candidates)
        count = tf.size(candidates, out_type=tf.int64)
        nothing = tf.zeros((0, 0, self.image_shape[-1]), self.dtype)
        attempts = tf.data.Dataset.from_tensor_slices(origins).enumerate()
        attempts = attempts.map(lambda place, index: (self._read(index), place))
        attempts = attempts.ignore_errors(log_warning=False)
        attempts = attempts.concatenate(tf.data.Dataset.from_tensors((nothing, count)))
        image, place = attempts.take(1).get_single_element()
        with tf.control_dependencies([self._report(origins[:place])]):
            image = tf.identity(image)
        image.set_shape(self.image_shape)
        return image, place
