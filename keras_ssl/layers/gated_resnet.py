"""The residual block of PixelCNN++."""

from typing import Any

import keras
from keras import ops

from keras_ssl.layers.dropout import KeyedDropout
from keras_ssl.layers.masked_conv import ShiftedConv2D
from keras_ssl.layers.weight_norm import WeightNormDense

_KERNELS = {"down": (2, 3), "down_right": (2, 2)}
_LAST_SCALE = 0.1  # of what a block adds at the start


def concat_elu(x: Any) -> Any:
    """elu([x, -x]), side by side on the last axis: twice the channels."""
    return ops.elu(ops.concatenate([x, -x], axis=-1))


@keras.saving.register_keras_serializable("keras_ssl")
class GatedResidualBlock(keras.layers.Layer):
    """x + p sigmoid(q), with [p, q] from two shifted convolutions.

        c = conv(E(x)) + 1x1 E(a),    [p, q] = conv(dropout(E(c))),    E(x) = elu([x, -x]),

    where `a` is an auxiliary input, if there is one. Salimans et al. 2017,
    https://arxiv.org/abs/1701.05517, sections 2.3 to 2.5 and the authors' code.

    Args:
        kind: "down" (kernels 2x3) or "down_right" (2x2), as of `ShiftedConv2D`.
        auxiliary: whether there is an input a.
        dropout: rate, in [0, 1).
        salt: as of `KeyedDropout`.
        **kwargs: as `keras.layers.Layer`.

    Functions that draw images pass around what the two convolutions of a block take, E(x) and E(c):
    a pair, of the row above or the pixel to the left, each with 2 F channels.
    """

    def __init__(
        self,
        kind: str = "down_right",
        auxiliary: bool = False,
        dropout: float = 0.0,
        salt: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kind, self.auxiliary, self.dropout, self.salt = kind, auxiliary, dropout, salt

    def build(self, input_shape: Any) -> None:
        """Make the convolutions."""
        shape = input_shape[0] if self.auxiliary else input_shape
        width, own = shape[-1], {"dtype": self.dtype_policy}
        conv = {"kernel_size": _KERNELS[self.kind], "kind": self.kind, "weight_norm": True, **own}
        self.conv_in = ShiftedConv2D(width, name="conv_in", **conv)
        self.conv_out = ShiftedConv2D(2 * width, initial_scale=_LAST_SCALE, name="conv_out", **conv)
        self.drop = KeyedDropout(self.dropout, self.salt, name="dropout", **own)
        for layer in (self.conv_in, self.conv_out):
            layer.build((*shape[:-1], 2 * width))
        self.side = None
        if self.auxiliary:
            self.side = WeightNormDense(width, name="auxiliary", **own)
            self.side.build((*shape[:-1], 2 * input_shape[1][-1]))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """x, or `[x, a]`, to maps of the shape of x."""
        x, a = inputs if self.auxiliary else (inputs, None)
        c = self._add_auxiliary(self.conv_in(concat_elu(x)), a)
        return x + _gated(self.conv_out(self.drop(concat_elu(c), training=training)))

    def row(self, x: Any, a: Any, above: tuple) -> tuple:
        """A row of the output of a "down" block, `(B, W, F)`.

        Args:
            x: row of the input.
            a: row of the auxiliary input, or None.
            above: E(x) and E(c) of the row above; zeros above the image.

        Returns:
            The row, and E(x) and E(c) of it.
        """
        first = concat_elu(x)
        c = self._add_auxiliary(self.conv_in.row(ops.stack([above[0], first], axis=1)), a)
        second = concat_elu(c)
        outputs = self.conv_out.row(ops.stack([above[1], second], axis=1))
        return x + _gated(outputs), (first, second)

    def above(self, above: tuple) -> tuple:
        """What the row above adds to the convolutions of a "down_right" block, all columns."""
        return tuple(
            conv.above(row[:, None]) for conv, row in zip((self.conv_in, self.conv_out), above)
        )

    def here(self, x: Any, a: Any, left: tuple, above: tuple) -> tuple:
        """The output of a "down_right" block at one pixel, `(B, F)`.

        Args:
            x: the input there.
            a: the auxiliary input there, or None.
            left: E(x) and E(c) of the pixel to the left; zeros beside the image.
            above: what the method `above` gives, of this column.

        Returns:
            The output, and E(x) and E(c) of the pixel.
        """
        first = concat_elu(x)
        c = self._add_auxiliary(above[0] + self.conv_in.here(left[0], first), a)
        second = concat_elu(c)
        outputs = above[1] + self.conv_out.here(left[1], second)
        return x + _gated(outputs), (first, second)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """That of x."""
        return input_shape[0] if self.auxiliary else input_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("kind", "auxiliary", "dropout", "salt")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _add_auxiliary(self, c: Any, a: Any) -> Any:
        return c if a is None else c + self.side(concat_elu(a))


def _gated(x: Any) -> Any:
    p, q = ops.split(x, 2, axis=-1)
    return p * ops.sigmoid(q)
