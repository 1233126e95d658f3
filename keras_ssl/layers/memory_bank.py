"""A memory of every image's embedding."""

from typing import Any

import keras
from keras import ops

from keras_ssl import distribute
from keras_ssl.ops import draws, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class MemoryBank(keras.layers.Layer):
    """One unit vector for each image of a data set, which follows the image's embeddings.

    Row i is a moving average, on the sphere, of image i's embeddings,

        M_i <- norm( momentum * M_i + (1 - momentum) * norm(v_i) ).

    An update costs in proportion to the batch, whatever the size. The bank is mirrored: every
    replica holds all of it, `4 * size * width` bytes (0.67 GB for 1.3 million images and width
    128), and all write the same. Wu et al. 2018 (InstDisc), https://arxiv.org/abs/1805.01978,
    section 3.

    Departures from the authors' code: rows are unit vectors from the start (theirs are uniform in a
    cube, of length 1 on average only); if an image is twice in a batch, its last embedding counts
    (theirs race); the constant of `fix_partition` is stored with the bank.

    Attributes:
        rows: variable `(size, width)`, float32; random unit vectors at first.
        partition: variable, the constant of `fix_partition`; -1 until it is known.

    Args:
        size: number of images, >= 1.
        width: length of a row, >= 1.
        momentum: share of a row that an update keeps, in [0, 1); with 0 the row is the latest
            embedding.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, size: int, width: int, momentum: float = 0.5, **kwargs: Any):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        if min(size, width) < 1:
            raise ValueError(
                f"`size` and `width` must be positive. Received: size={size}, width={width}."
            )
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1). Received: momentum={momentum}. With 1 no row would "
                "ever change."
            )
        self.size, self.width, self.momentum = size, width, momentum
        self.rows = self.add_weight(
            shape=(size, width),
            initializer=lambda shape, dtype: l2_normalize(keras.random.normal(shape, dtype=dtype)),
            trainable=False,
            aggregation="none",
            name="rows",
        )
        self.partition = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(-1.0),
            trainable=False,
            name="partition",
        )
        self.built = True

    def look_up(self, index: Any) -> Any:
        """Rows of the images `index`, an integer tensor `(...)`, as constants `(..., width)`."""
        return ops.stop_gradient(distribute.read_rows(self.rows, ops.cast(index, "int32")))

    def update(self, index: Any, embeddings: Any) -> None:
        """Move the rows of a batch towards its embeddings; the same on every replica.

        Args:
            index: integers `(n,)`, the images of the global batch.
            embeddings: `(n, width)`, any floating dtype; normalised here.
        """
        # A scatter with duplicate indices writes in no fixed order: give duplicates equal values.
        index = ops.cast(index, "int32")
        last = _last_of_each(index)
        mixed = self.momentum * self.look_up(index)
        mixed += (1.0 - self.momentum) * ops.take(l2_normalize(embeddings), last, axis=0)
        distribute.write_rows(self.rows, index, ops.stop_gradient(l2_normalize(mixed)))

    def fix_partition(self, estimate: Any, keep: bool = True) -> Any:
        """The normalising constant of scores against this bank: the first estimate, kept for good.

        Args:
            estimate: positive scalar, of this batch.
            keep: whether `estimate` is stored if nothing has been stored before.

        Returns:
            float32 scalar without gradient: the stored constant, or `estimate` if there is none.
        """
        known = ops.convert_to_tensor(self.partition)
        value = ops.where(known < 0, ops.stop_gradient(ops.cast(estimate, "float32")), known)
        if keep:
            self.partition.assign(value)
        return value

    def draw(self, key: Any, count: int) -> Any:
        """`count` images, uniform and with replacement: a function of `key`, no random state.

        Args:
            key: scalar integer, a number or a tensor, >= 0; see `ops.draws.draw_key`.
            count: how many, >= 1.

        Returns:
            int32 tensor `(count,)`, in [0, size).
        """
        return draws.integers(key, count, self.size)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"size": self.size, "width": self.width, "momentum": self.momentum}
        return {**super().get_config(), **own}


def _last_of_each(index: Any) -> Any:
    """For every place of `index` the last place that holds the same number."""
    places = ops.arange(ops.shape(index)[0], dtype="int32")
    same = ops.equal(index[:, None], index[None, :])
    return ops.max(ops.where(same, places[None, :], -1), axis=1)
