"""Tokens that stand for patches that are not known."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.ops.masking import in_place
from keras_ssl.ops.positions import sincos_positions


@keras.saving.register_keras_serializable("keras_ssl")
class MaskTokens(keras.layers.Layer):
    """A learned token at the places that are hidden, the others back at theirs; plus positions.

    Positions are `keras_ssl.ops.positions.sincos_positions`, not trained.

    Args:
        grid: (h, w) of the places, L = h w.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, grid: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.length = math.prod(self.grid)

    def build(self, visible_shape: Sequence[int | None], order_shape: Any) -> None:
        """Make the token."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.token = self.add_weight((1, 1, visible_shape[-1]), start, name="token")

    def call(self, visible: Any, order: Any) -> Any:
        """Tokens `(B, L, D)` of `(B, K, D)`, those at the first K places of `order` `(B, L)`."""
        hidden = self.length - visible.shape[1]
        shape = (ops.shape(visible)[0], hidden, visible.shape[2])
        unknown = ops.broadcast_to(ops.cast(self.token, visible.dtype), shape)
        tokens = in_place(ops.concatenate([visible, unknown], axis=1), order)
        waves = sincos_positions(self.grid, visible.shape[2])
        return tokens + ops.cast(waves, tokens.dtype)

    def compute_output_shape(self, visible_shape: Sequence[int | None], order_shape: Any) -> tuple:
        """(B, L, D)."""
        return (visible_shape[0], self.length, visible_shape[-1])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "grid": list(self.grid)}


@keras.saving.register_keras_serializable("keras_ssl")
class QueryTokens(keras.layers.Layer):
    """Known tokens at their places, then a learned token for each place that is asked for.

    Positions are `keras_ssl.ops.positions.sincos_positions`, not trained.

    Args:
        grid: (h, w) of the places.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, grid: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def build(self, known_shape: Sequence[int | None], places_shape: Any, asked_shape: Any) -> None:
        """Make the token."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.token = self.add_weight((known_shape[-1],), start, name="token")

    def call(self, known: Any, places: Any, asked: Any) -> Any:
        """Tokens `(B, K + M, D)` of `(B, K, D)` at `places` `(B, K)`, and of `asked` `(B, M)`."""
        waves = ops.convert_to_tensor(sincos_positions(self.grid, known.shape[-1]), known.dtype)
        token = ops.cast(self.token, known.dtype)
        unknown = ops.take(waves, asked, axis=0) + token
        return ops.concatenate([known + ops.take(waves, places, axis=0), unknown], axis=1)

    def compute_output_shape(
        self, known_shape: Sequence[int | None], places_shape: Any, asked_shape: Any
    ) -> tuple:
        """(B, K + M, D)."""
        return (known_shape[0], known_shape[1] + asked_shape[1], known_shape[-1])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "grid": list(self.grid)}
