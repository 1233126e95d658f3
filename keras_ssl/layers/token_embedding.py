"""From tokens to vectors, with their places."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class TokenEmbedding(keras.layers.Layer):
    """One vector for each token and one for each place, added.

        shifted:    x_n = e(t_{n-1}) + p_n, with a learned start vector in the place of e(t_0);
        else:       x_n = e(t_n) + p_n, with 0 in the place of e(t_n) where a token is hidden.

    Chen et al. 2020 (iGPT), authors' code. Departures from it: none known.

    Args:
        size: number of different tokens.
        length: N, places.
        width: D of the vectors.
        shifted: whether each place gets the token before it, for a model that predicts it.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, size: int, length: int, width: int, shifted: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.length, self.width, self.shifted = size, length, width, shifted

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the vectors."""
        normal = keras.initializers.RandomNormal
        self.vectors = self.add_weight((self.size, self.width), normal(stddev=0.02), name="vectors")
        places = (self.length, self.width)
        self.positions = self.add_weight(places, normal(stddev=0.01), name="positions")
        if self.shifted:
            self.start = self.add_weight((self.width,), normal(stddev=0.02), name="start")

    def call(self, tokens: Any, shown: Any = None) -> Any:
        """Vectors `(B, N, D)` of tokens `(B, N)`; `shown` is 0 where one is hidden, else 1."""
        # The product makes the gradient a plain tensor, for whoever trains the exported encoder.
        x = ops.take(1.0 * self.vectors, tokens, axis=0)
        if self.shifted:
            start = ops.broadcast_to(self.start, (ops.shape(tokens)[0], 1, self.width))
            x = ops.concatenate([start, x[:, :-1]], axis=1)
        elif shown is not None:
            x = x * ops.cast(shown, x.dtype)[..., None]
        return x + self.positions

    def step(self, before: Any, place: Any) -> Any:
        """The vector `(B, 1, D)` of one place of a shifted sequence.

        Args:
            before: tokens of the place before, `(B,)`; not read at place 0.
            place: n, integer scalar.
        """
        x = ops.where(place == 0, self.start, ops.take(self.vectors, before, axis=0))
        return (x + ops.take(self.positions, place, axis=0))[:, None]

    def compute_output_shape(
        self, input_shape: Sequence[int | None], shown_shape: Any = None
    ) -> tuple:
        """(B, N, D)."""
        return (*input_shape, self.width)

    def compute_output_spec(self, tokens: Any, shown: Any = None) -> keras.KerasTensor:
        """Of the policy's type, whatever that of the tokens."""
        return keras.KerasTensor((*tokens.shape, self.width), dtype=self.compute_dtype)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("size", "length", "width", "shifted")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
