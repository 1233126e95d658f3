"""LSTM layers over images that see only what comes before a pixel: by rows, and by diagonals.

As in `masked_conv`, each layer has two forms of one function. `call` takes whole maps. A sampler,
row by row, calls `before_row` with what the rows above have left, `pixel` for each column, and
`after_row`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.layers.masked_conv import MaskedConv2D

_GATES = 4  # output, forget and input gate, and content, in this order


@keras.saving.register_keras_serializable("keras_ssl")
class RowLSTM(keras.layers.Layer):
    """An LSTM that goes down the rows; a pixel sees a triangle above it.

    Of the row i of the input, x_i `(W, F)`, with * a convolution of width 3 along the row, masked
    for the input (its own colours and columns left of it), not for the state,

        [o, f, i, g] = K_ss * h_{i-1} + K_is * x_i + b,
        c_i = sigmoid(f) c_{i-1} + sigmoid(i) tanh(g),    h_i = sigmoid(o) tanh(c_i),

    and the output is x_i + 1x1 h_i. States are zero above the image.

    van den Oord et al. 2016, https://arxiv.org/abs/1601.06759, sections 3.1 and 3.3, figures 4 and
    5. Departures from the authors' code (none was published): the bias of the forget gate starts
    at 1.

    Args:
        units: width of h and c.
        groups: number of colours.
        **kwargs: as `keras.layers.Layer`.
    """

    columns_left = 1

    def __init__(self, units: int, groups: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.groups = units, groups

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the convolutions."""
        self.width = input_shape[-1]
        self.from_input = _gates(self, (1, 3), input_shape)
        self.from_state = keras.layers.Conv1D(
            _GATES * self.units,
            3,
            padding="same",
            use_bias=False,
            name="from_state",
            dtype=self.dtype_policy,
        )
        self.from_state.build((None, input_shape[2], self.units))
        self.widen = _widen(self, input_shape)

    def call(self, inputs: Any) -> Any:
        """Maps `(B, H, W, F)` to maps of that shape."""
        rows = ops.moveaxis(self.from_input(inputs), 1, 0)

        def step(state, row):
            h, c = ops.split(state, 2, axis=-1)
            return _twice(*_lstm(self.from_state(h) + row, c))

        first = ops.zeros(
            (ops.shape(inputs)[0], inputs.shape[2], 2 * self.units), self.compute_dtype
        )
        _, states = ops.scan(step, first, rows)
        return inputs + self.widen(ops.moveaxis(states[..., : self.units], 0, 1))

    def start(self, count: int, columns: int) -> tuple:
        """What lies above the image: h and c, `(B, W, units)`."""
        zeros = ops.zeros((count, columns, self.units), self.compute_dtype)
        return zeros, zeros

    def before_row(self, state: tuple) -> Any:
        """What `pixel` needs, `(B, W, n)`, column by column."""
        h, c = state
        return ops.concatenate([self.from_state(h), c], axis=-1)

    def pixel(self, inputs: Any, left: Any, side: Any) -> tuple:
        """Output at one pixel.

        Args:
            inputs: `(B, F)`.
            left: what was kept at the column left of it, `(B, n)`; zeros beside the image.
            side: `(B, n)`, from `before_row`.

        Returns:
            The output `(B, F)`, and what is to be kept, `(B, n)`.
        """
        gates, c = side[:, : -self.units], side[:, -self.units :]
        taps = left[:, None, : self.width]
        own = self.from_input.here(inputs, taps) + ops.cast(self.from_input.bias, inputs.dtype)
        h, c = _lstm(gates + own, c)
        return inputs + _at_pixel(self.widen, h), ops.concatenate([inputs, h, c], axis=-1)

    @property
    def kept(self) -> int:
        """Width of what `pixel` keeps."""
        return self.width + 2 * self.units

    def after_row(self, state: tuple, taken: Any) -> tuple:
        """The state below a row whose pixels have kept `taken`, `(B, W, n)`."""
        return taken[..., self.width : -self.units], taken[..., -self.units :]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "groups": self.groups}


@keras.saving.register_keras_serializable("keras_ssl")
class DiagonalBiLSTM(keras.layers.Layer):
    """Two LSTMs that go along the diagonals, from both sides; a pixel sees all before it.

    One goes from the upper left: at row r and column c, with x the input,

        [o, f, i, g] = K_up h_{r-1,c} + K_left h_{r,c-1} + K_is x_{r,c} + b,
        c_{r,c} = sigmoid(f) c_{r,c-1} + sigmoid(i) tanh(g),    h_{r,c} = sigmoid(o) tanh(c_{r,c}),

    the other, with weights of its own, is its mirror image from the upper right. What the second
    gives is moved down by a row, so that no pixel sees those to its right, and added; the output
    is x + 1x1 of the sum. All pixels of a diagonal are computed at once, as columns of the map
    whose row r is moved r places to the right. States are zero outside the image.

    van den Oord et al. 2016, https://arxiv.org/abs/1601.06759, sections 3.2 and 3.3, figures 3 and
    5. Departures from the authors' code (none was published): the bias of the forget gate starts
    at 1.

    Args:
        units: width of h and c, in each direction.
        groups: number of colours.
        **kwargs: as `keras.layers.Layer`.
    """

    columns_left = 1

    def __init__(self, units: int, groups: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.groups = units, groups

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights of both directions."""
        self.width = input_shape[-1]
        self.inputs_of, self.states_of = {}, {}
        for side in ("left", "right"):
            self.inputs_of[side] = _gates(self, 1, input_shape, name=f"from_input_{side}")
            # Rows of the kernel: of the pixel above, then of the one beside it.
            self.states_of[side] = self.add_weight(
                (2 * self.units, _GATES * self.units), "glorot_uniform", name=f"from_{side}"
            )
        self.widen = _widen(self, input_shape)

    def call(self, inputs: Any) -> Any:
        """Maps `(B, H, W, F)` to maps of that shape."""
        forward = self._diagonals("left", inputs)
        # Mirrored before and after: it sees the pixels to its right, of its own row too.
        backward = ops.flip(self._diagonals("right", ops.flip(inputs, axis=2)), axis=2)
        above = ops.pad(backward[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        return inputs + self.widen(forward + above)

    def start(self, count: int, columns: int) -> tuple:
        """What lies above the image: h of both directions, `(B, W, units)`."""
        zeros = ops.zeros((count, columns, self.units), self.compute_dtype)
        return zeros, zeros

    def before_row(self, state: tuple) -> Any:
        """As `RowLSTM.before_row`."""
        forward, backward = state
        up = ops.cast(self.states_of["left"][: self.units], self.compute_dtype)
        return ops.concatenate([ops.matmul(forward, up), backward], axis=-1)

    def pixel(self, inputs: Any, left: Any, side: Any) -> tuple:
        """As `RowLSTM.pixel`."""
        gates, backward = side[:, : -self.units], side[:, -self.units :]
        h, c = self._beside("left", inputs, gates, left[:, self.width :])
        x = inputs + _at_pixel(self.widen, h + backward)
        return x, ops.concatenate([inputs, h, c], axis=-1)

    @property
    def kept(self) -> int:
        """Width of what `pixel` keeps."""
        return self.width + 2 * self.units

    def after_row(self, state: tuple, taken: Any) -> tuple:
        """As `RowLSTM.after_row`: the second direction follows when the row is complete."""
        up = ops.cast(self.states_of["right"][: self.units], self.compute_dtype)
        gates = ops.matmul(state[1], up)
        columns = [ops.moveaxis(x, 1, 0) for x in (taken[..., : self.width], gates)]

        def step(kept, column):
            return _twice(*self._beside("right", *column, kept))

        first = ops.zeros((taken.shape[0], 2 * self.units), self.compute_dtype)
        _, backward = ops.scan(step, first, columns, reverse=True)
        backward = ops.moveaxis(backward[..., : self.units], 0, 1)
        return taken[..., self.width : -self.units], backward

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "groups": self.groups}

    def _diagonals(self, side, inputs):
        """H of one direction, `(B, H, W, units)`, of an image that it enters at the upper left."""
        height, width = inputs.shape[1:3]
        columns = ops.moveaxis(skew(self.inputs_of[side](inputs)), 2, 0)
        kernel = ops.cast(self.states_of[side], self.compute_dtype)

        def step(state, column):
            h, c = ops.split(state, 2, axis=-1)
            # Row r of the last diagonal's column is the pixel to the left, row r - 1 that above.
            up = ops.pad(h[:, :-1], ((0, 0), (1, 0), (0, 0)))
            gates = column + ops.matmul(ops.concatenate([up, h], axis=-1), kernel)
            return _twice(*_lstm(gates, c))

        first = ops.zeros((ops.shape(inputs)[0], height, 2 * self.units), self.compute_dtype)
        _, states = ops.scan(step, first, columns)
        return unskew(ops.moveaxis(states[..., : self.units], 0, 2), width)

    def _beside(self, side, inputs, gates, kept):
        """H and c of one pixel, from those of the pixel beside it, `kept`, and gates from above."""
        beside = ops.cast(self.states_of[side][self.units :], self.compute_dtype)
        h, c = ops.split(kept, 2, axis=-1)
        own = _at_pixel(self.inputs_of[side], inputs)
        return _lstm(gates + own + ops.matmul(h, beside), c)


def skew(maps: Any) -> Any:
    """Move row r by r places to the right: `(B, H, W, F)` to `(B, H, W + H - 1, F)`, zeros around.

    A column of the result is a diagonal of the map.
    """
    count, (height, width, channels) = ops.shape(maps)[0], maps.shape[1:]
    # Rows that are H places longer than the map's, cut again at W + H - 1, move by one each.
    long = ops.pad(maps, ((0, 0), (0, 0), (0, height), (0, 0)))
    flat = ops.reshape(long, (count, height * (width + height), channels))
    flat = flat[:, : height * (width + height - 1)]
    return ops.reshape(flat, (count, height, width + height - 1, channels))


def unskew(maps: Any, width: int) -> Any:
    """Undo `skew` of maps that were `width` wide."""
    count, (height, long, channels) = ops.shape(maps)[0], maps.shape[1:]
    flat = ops.reshape(maps, (count, height * long, channels))
    flat = ops.pad(flat, ((0, 0), (0, height), (0, 0)))
    return ops.reshape(flat, (count, height, long + 1, channels))[:, :, :width]


def _lstm(gates, c):
    o, f, i, g = ops.split(gates, _GATES, axis=-1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def _twice(h, c):
    """The state as it is carried on and as it is kept: Keras wants both of one shape."""
    state = ops.concatenate([h, c], axis=-1)
    return state, state


def _gates(layer, kernel_size, input_shape, name="from_input"):
    """The masked convolution from the input to the four gates, each with all colours."""
    conv = MaskedConv2D(
        _GATES * layer.units,
        kernel_size,
        groups=layer.groups,
        parts=_GATES,
        name=name,
        dtype=layer.dtype_policy,
    )
    conv.build(tuple(input_shape))
    forget = np.zeros((_GATES, layer.units), "float32")
    forget[1] = 1.0
    conv.bias.assign(forget.ravel())
    return conv


def _widen(layer, input_shape):
    """The masked 1x1 convolution from the states to the width of the input."""
    conv = MaskedConv2D(
        input_shape[-1], 1, groups=layer.groups, name="widen", dtype=layer.dtype_policy
    )
    conv.build((*input_shape[:-1], layer.units))
    return conv


def _at_pixel(layer, x):
    """A layer of 1x1 taps on `(B, C)`."""
    return layer(x[:, None, None])[:, 0, 0]
