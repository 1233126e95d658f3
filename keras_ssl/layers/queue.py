"""A memory of the latest embeddings."""

from typing import Any

import keras
from keras import ops

from keras_ssl import distribute
from keras_ssl.ops import l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class Queue(keras.layers.Layer):
    """A ring buffer of the latest `size` rows, first in, first out, the same on every replica.

    New rows overwrite the oldest, at a cost in proportion to their number. It takes
    `4 * size * width` bytes on each device. He et al. 2020 (MoCo),
    https://arxiv.org/abs/1911.05722, section 3.2. Departures from the authors' code: rows in the
    place of columns; batches need not divide `size`.

    Attributes:
        keys: variable `(size, width)`, float32; random unit rows at first.
        pointer: variable, where the next row goes.
        count: variable, rows that have been filled, at most `size`.

    Args:
        size: number of rows, >= 1.
        width: length of a row, >= 1.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `size` or `width` is not positive.
    """

    def __init__(self, size: int, width: int, **kwargs: Any):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        if min(size, width) < 1:
            raise ValueError(
                f"`size` and `width` must be positive. Received: size={size}, width={width}."
            )
        self.width = width
        self._make(size)
        self.built = True

    def _make(self, size: int) -> None:
        self.size = size
        self.keys = self.add_weight(
            shape=(size, self.width),
            initializer=lambda shape, dtype: l2_normalize(keras.random.normal(shape, dtype=dtype)),
            trainable=False,
            aggregation="none",
            name="keys",
        )
        self.pointer, self.count = (
            self.add_weight(
                shape=(), dtype="int32", initializer="zeros", trainable=False, name=name
            )
            for name in ("pointer", "count")
        )

    def shrink(self, size: int) -> None:
        """Make an unused queue smaller, with new variables; graphs that read the old are void."""
        if int(ops.convert_to_numpy(self.count)) or not 1 <= size <= self.size:
            raise ValueError(
                "`shrink` takes a queue that was never filled, and a size from 1 to its own, "
                f"{self.size}. Received: size={size}, rows filled: {int(self.count)}."
            )
        # All three: saved weights are told apart by their order.
        del self.keys, self.pointer, self.count
        self._make(size)

    @property
    def full(self) -> Any:
        """Whether every row has been filled, a scalar tensor."""
        return ops.greater_equal(self.count, self.size)

    def enqueue(self, rows: Any) -> None:
        """Add `rows` `(n, width)`, those of the global batch; n is known and at most `size`.

        Raises:
            ValueError: if there are more rows than the queue holds.
        """
        number = rows.shape[0]
        if number is None or number > self.size:
            raise ValueError(
                f"A batch put into the queue must have at most its size, {self.size} rows, and a "
                f"known number. Received: {number}. Use a smaller batch (with "
                "drop_remainder=True), or a larger queue."
            )
        places = (self.pointer + ops.arange(number, dtype="int32")) % self.size
        distribute.write_rows(self.keys, places, ops.stop_gradient(rows))
        self.pointer.assign((self.pointer + number) % self.size)
        self.count.assign(ops.minimum(self.count + number, self.size))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size, "width": self.width}
