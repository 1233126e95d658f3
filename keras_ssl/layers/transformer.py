"""Blocks of a transformer: GPT-2's as Image GPT has it, over a sequence or along an axis of a map.

Chen et al. 2020 (iGPT), https://proceedings.mlr.press/v119/chen20s.html, section 2.3 and the
authors' code. Departures from it: none known.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_EPSILON = 1e-5  # of the normalisations


@keras.saving.register_keras_serializable("keras_ssl")
class SelfAttention(keras.layers.Layer):
    """Attention of each place of a sequence to all, or to those up to itself.

    Of x `(B, N, D)`, with h heads of width d = D / h, and no biases:

        q, k, v = x W_q, x W_k, x W_v;    y = sum_heads softmax(q k^T / sqrt(d)) v W_o.

    Scores and softmax are float32 under every policy.

    Args:
        heads: h, divides D.
        causal: whether place n sees places 0 to n alone.
        output_stddev: standard deviation of the initial W_o; the others have 1 / sqrt(D).
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, heads: int, causal: bool, output_stddev: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads, self.causal, self.output_stddev = heads, causal, output_stddev

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the four projections."""
        width = input_shape[-1]
        if width % self.heads:
            raise ValueError(
                f"`heads` must divide the width of the tokens, {width}. Received: "
                f"heads={self.heads}."
            )
        stddev = {"query": width**-0.5, "key": width**-0.5, "value": width**-0.5}
        for name, own in {**stddev, "output": self.output_stddev}.items():
            start = keras.initializers.RandomNormal(stddev=own)
            weight = self.add_weight((width, width), start, name=f"{name}_kernel")
            setattr(self, f"{name}_kernel", weight)

    def call(self, x: Any) -> Any:
        """Outputs `(B, N, D)`."""
        q, k, v = self._projected(x)
        places = ops.arange(x.shape[1])
        seen = places[:, None] >= places[None] if self.causal else None
        return self._merged(attend(q, k, v, seen))

    def step(self, x: Any, cache: tuple, place: Any) -> tuple:
        """The outputs of one more place of a causal sequence, and the cache with it.

        Args:
            x: `(B, 1, D)`, that of `place`.
            cache: keys and values of the places before it, each `(B, N, heads, d)`.
            place: n, integer scalar.
        """
        q, k, v = self._projected(x)
        keys, values = (
            ops.slice_update(old, (0, place, 0, 0), new) for old, new in zip(cache, (k, v))
        )
        seen = ops.arange(keys.shape[1])[None] <= place
        return self._merged(attend(q, keys, values, seen)), (keys, values)

    def empty_cache(self, batch: int, length: int, width: int) -> tuple:
        """Keys and values of a sequence of which nothing is known."""
        shape = (batch, length, self.heads, width // self.heads)
        return (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("heads", "causal", "output_stddev")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _projected(self, x):
        kernels = (self.query_kernel, self.key_kernel, self.value_kernel)
        split = (-1, x.shape[1], self.heads, x.shape[2] // self.heads)
        return (ops.reshape(self._product(x, kernel), split) for kernel in kernels)

    def _merged(self, y):
        y = ops.reshape(y, (-1, y.shape[1], y.shape[2] * y.shape[3]))
        return self._product(y, self.output_kernel)

    def _product(self, x, kernel):
        # `step` is no call of the layer, so nothing casts for it.
        return ops.matmul(*(ops.cast(a, self.compute_dtype) for a in (x, kernel)))


@keras.saving.register_keras_serializable("keras_ssl")
class TransformerBlock(keras.layers.Layer):
    """Attention and a perceptron, each on normalised inputs and added to them.

        x <- x + attention(norm(x)),    x <- x + W_2 f(W_1 norm(x)),    f(a) = a sigmoid(1.702 a),

    without biases; norm divides by the root of the mean square and has a gain (no mean is
    subtracted). W_1 widens fourfold.

    Args:
        heads: of the attention.
        causal: whether a place sees those up to itself alone.
        depth: number of blocks of the network: W_o of the attention starts with standard deviation
            1 / sqrt(D depth), so that the sum of all blocks does not grow with their number.
        axis: None for sequences `(B, N, D)`; "row" or "column" for maps `(B, H, W, D)`, where the
            places of each row, or column, are a sequence of their own (Ho et al. 2019,
            https://arxiv.org/abs/1912.12180, section 3).
        remat: whether what lies inside is computed a second time for the gradient, so that only the
            block's input is kept.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(
        self,
        heads: int,
        causal: bool = True,
        depth: int = 1,
        axis: str | None = None,
        remat: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if axis not in (None, "row", "column"):
            raise ValueError(f"`axis` must be None, 'row' or 'column'. Received: axis={axis!r}.")
        self.heads, self.causal, self.depth = heads, causal, depth
        self.axis, self.remat = axis, remat

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the parts."""
        width = input_shape[-1]
        flat = (None, None, width)
        norm, dense = keras.layers.RMSNormalization, keras.layers.Dense
        own = {"dtype": self.dtype_policy}
        self.norm1 = norm(epsilon=_EPSILON, name="norm1", **own)
        stddev = (width * self.depth) ** -0.5
        self.attention = SelfAttention(self.heads, self.causal, stddev, name="attention", **own)
        self.norm2 = norm(epsilon=_EPSILON, name="norm2", **own)
        self.widen = dense(4 * width, **_bare(), name="widen", **own)
        self.narrow = dense(width, **_bare(), name="narrow", **own)
        for part in (self.norm1, self.attention, self.norm2, self.widen):
            part.build(flat)
        self.narrow.build((None, None, 4 * width))

    def call(self, x: Any) -> Any:
        """Tokens of the same shape."""
        run = keras.remat(self._block) if self.remat else self._block
        return run(x)

    def step(self, x: Any, cache: tuple, place: Any) -> tuple:
        """One more place of a causal sequence; see `SelfAttention.step`."""
        x = ops.cast(x, self.compute_dtype)  # as for a call of the layer
        y, cache = self.attention.step(self.norm1(x), cache, place)
        return self._perceptron(x + y), cache

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("heads", "causal", "depth", "axis", "remat")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _block(self, x):
        y = self.norm1(x)
        if self.axis is None:
            y = self.attention(y)
        else:
            y = along(self.axis, self.attention, y)
        return self._perceptron(x + y)

    def _perceptron(self, x):
        y = self.widen(self.norm2(x))
        return x + self.narrow(y * ops.sigmoid(1.702 * y))


def attend(queries: Any, keys: Any, values: Any, seen: Any = None) -> Any:
    """softmax(q k^T / sqrt(d)) v of each head, with scores and softmax in float32.

    `ops.dot_product_attention`, but for its mask, which has the shape of the scores, for every
    image and head, and which TensorFlow computes while it optimises a graph where it is constant: a
    step of 24 layers on 8 images of 1024 places then took 11.6 GB in the place of 4.0.

    Args:
        queries: `(B, N, heads, d)`.
        keys: `(B, M, heads, d)`.
        values: `(B, M, heads, d)`.
        seen: bool `(N, M)`, which places each query attends to; None for all.

    Returns:
        `(B, N, heads, d)`.
    """
    scores = ops.cast(ops.einsum("bnhd,bmhd->bhnm", queries, keys), "float32")
    scores = scores * queries.shape[-1] ** -0.5
    if seen is not None:
        scores = ops.where(seen, scores, -1e30)
    return ops.einsum("bhnm,bmhd->bnhd", ops.cast(ops.softmax(scores), values.dtype), values)


def _bare():
    """Of a Dense layer: no bias, and an initial kernel of its own."""
    return {
        "use_bias": False,
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.02),
    }


def along(axis: str, function: Any, x: Any) -> Any:
    """`function` of sequences `(n, N, D)`, on each "row" or each "column" of a map `(B, H, W, D)`.

    Args:
        axis: "row" or "column".
        function: keeps the shape of sequences.
        x: the map.
    """
    if axis == "column":
        x = ops.transpose(x, (0, 2, 1, 3))
    lines, places, width = x.shape[1:]
    y = function(ops.reshape(x, (-1, places, width)))
    y = ops.reshape(y, (-1, lines, places, width))
    return ops.transpose(y, (0, 2, 1, 3)) if axis == "column" else y
