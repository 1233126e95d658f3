"""Sources that are read from front to back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data import errors, seeds
from keras_ssl.data.source import Source

_BUFFER_BYTES = 2**29  # of the shuffle buffer, at most
_BUFFER_IMAGES = 10_000  # likewise


class SequentialSource(Source):
    """A source that is read from front to back, and shuffled in a buffer.

    Args:
        raw: data set of raw images in a fixed order; strings or tensors.
        decode: from a raw image to the image; used inside `tf.data`.
        size: number of images.
        read_labels: gives the labels of the first so many images; None where there are none.
        **description: as `Source`.
    """

    random_access = False

    def __init__(
        self,
        raw: tf.data.Dataset,
        decode: Callable[[Any], tf.Tensor],
        size: int,
        *,
        read_labels: Callable[[int], np.ndarray] | None = None,
        **description: Any,
    ) -> None:
        super().__init__(size, **description)
        self._raw, self.decode, self._read_labels = raw, decode, read_labels
        self._labels = None

    @property
    def labels(self) -> np.ndarray | None:
        """Integer labels by index (int64), for evaluation only; None where there are none."""
        if self._labels is None and self._read_labels is not None:
            self._labels = self._read_labels(self.size)
        return self._labels

    @property
    def has_labels(self) -> bool:
        """Whether there are labels; unlike `labels`, never reads them."""
        return self._read_labels is not None

    def _renumber(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        read = self._read_labels
        if read is not None:
            self._labels, self._read_labels = None, lambda count: change(read(count))

    def labels_at(self, indices: np.ndarray) -> np.ndarray:
        """The labels of the images at `indices`; see `Source`."""
        known = self._labels
        return (self._read_labels(int(indices.max()) + 1) if known is None else known)[indices]

    def ordered(self) -> tf.data.Dataset:
        """`{"image", "index"}` in the order of the index."""
        return self._elements(self._raw.enumerate())

    def repeated_raw(self, seed: int, epoch: tf.Tensor | int) -> tf.data.Dataset:
        """`shuffled_raw` for ever, in one order; an error where a pass yields nothing."""
        # TensorFlow ends `repeat` after an empty pass alone; the epoch after it would be as empty,
        # and so on without an end.
        return self.shuffled_raw(seed, epoch).repeat().concatenate(self._nothing())

    def _nothing(self) -> tf.data.Dataset:
        """In the form of `shuffled_raw`, an error in the place of the first element."""
        spec = self._raw.element_spec

        @errors.raises_in_graph
        def fail() -> None:
            raise ValueError(errors.empty_pass(self.name))

        def element(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            index, raw = tf.numpy_function(fail, [], [tf.int64, spec.dtype], stateful=True)
            index.set_shape(())
            raw.set_shape(spec.shape)
            return index, raw

        return tf.data.Dataset.range(1).map(element)

    def shuffled(self, seed: int, epoch: tf.Tensor | int) -> tf.data.Dataset:
        """`{"image", "index"}` in an order that is a function of (seed, epoch)."""
        return self._elements(self.shuffled_raw(seed, epoch))

    def shuffled_raw(self, seed: int, epoch: tf.Tensor | int) -> tf.data.Dataset:
        """(index, raw image) in the order of an epoch, not yet decoded."""
        key = tf.cast(seeds.epoch_seed(seed, seeds.ORDER, epoch), tf.int64)

        def shuffle(key: tf.Tensor) -> tf.data.Dataset:
            # `shuffle` mixes the global seed in: fix it (not at 0), for this graph alone.
            tf.compat.v1.set_random_seed(1)
            pairs = self._raw.enumerate()
            return pairs.shuffle(self._buffer, seed=key[0], reshuffle_each_iteration=False)

        return tf.data.Dataset.from_tensors(key).flat_map(shuffle)

    @property
    def _buffer(self) -> int:
        height, width = self.typical_size
        image_bytes = height * width * self.image_shape[-1] * (4 if self.dtype == "float32" else 1)
        return max(2, min(self.size, _BUFFER_IMAGES, _BUFFER_BYTES // image_bytes))

    def _chosen(self, indices: np.ndarray) -> tf.data.Dataset:
        if len(indices) == self.size:
            return self.ordered()
        # One pass over the front with a lookup: the raw images left out are never decoded.
        mask = np.zeros(self.size, bool)
        mask[indices] = True
        with tf.device("CPU:0"):
            mask = tf.constant(mask)
        front = self._raw.take(int(indices[-1]) + 1).enumerate()
        return self._elements(front.filter(lambda index, _: mask[index]))

    def _elements(self, pairs: tf.data.Dataset) -> tf.data.Dataset:
        return pairs.map(
            lambda index, raw: {"image": self.decode(raw), "index": index},
            num_parallel_calls=tf.data.AUTOTUNE,
        )
