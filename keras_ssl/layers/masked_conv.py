"""Convolutions that see only what comes before a pixel, in the order of rows, then columns.

Each layer has two forms of one function. `call` takes whole maps and is what training uses. The
others take what has just become known: `row` a row of the output, whose inputs are known; `above`
what the rows above a row add to it, and `here` what the row itself adds to one pixel, so that

    call(x)[:, i, j] = above(rows of x before i)[:, j] + here(x[:, i, up to j]).

A sampler computes the first once a row and the second once a pixel: its cost is that of one pass
over the image, in the place of one a pixel.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.layers import weight_norm
from keras_ssl.layers.fixed_kernels import kernel_of

KINDS = ("A", "B")


@keras.saving.register_keras_serializable("keras_ssl")
class MaskedConv2D(keras.layers.Layer):
    """A convolution whose kernel is masked: rows above, columns left, and colours before.

    Channels form `groups`, contiguous and as equal as they can be: of input channel c of n it is
    floor(c groups / n). At the pixel itself, group p reaches group q if p < q (kind "A", for the
    first layer, whose input is the image), or p <= q (kind "B"). The mask is multiplied into the
    kernel at each call, so masked taps are zero whatever the variable holds. Rows below the pixel,
    and the columns to its right where there is a single row, are not stored.

    van den Oord et al. 2016, https://arxiv.org/abs/1601.06759, section 3.4 and figure 2. Departures
    from the authors' code: kernels start as wide as the live taps want it.

    Args:
        filters: channels of the output.
        kernel_size: height and width of the whole kernel, odd; a number for both.
        kind: "A" or "B".
        groups: number of colours.
        parts: equal parts of the output channels, each with all groups in it: 2 for the halves of
            a gate, 4 for those of an LSTM.
        use_bias: whether a bias is added.
        kernel_initializer: of the kernel.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        kind: str = "B",
        groups: int = 1,
        parts: int = 1,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        size = _pair(kernel_size)
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}.")
        if min(size) < 1 or size[0] % 2 == 0 or size[1] % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd, so that there is a centre. Received: {kernel_size}."
            )
        if groups < 1 or parts < 1 or filters < groups * parts or filters % parts:
            raise ValueError(
                "`filters` must be a multiple of `parts`, with a channel for each of the `groups` "
                f"in each part. Received: filters={filters}, groups={groups}, parts={parts}."
            )
        self.filters, self.kernel_size, self.kind = filters, size, kind
        self.groups, self.parts, self.use_bias = groups, parts, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    @property
    def rows_above(self) -> int:
        """Rows above the pixel that the kernel reaches."""
        return self.kernel_size[0] // 2

    @property
    def columns_left(self) -> int:
        """Columns left of the pixel that the kernel reaches."""
        return self.kernel_size[1] // 2

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the kernel, `(rows above + 1, columns, inputs, filters)`, mask and bias."""
        self.mask = self._mask(input_shape[-1])
        gain = 1.0 / math.sqrt(self.mask.mean())

        def scaled(shape, dtype=None):
            return gain * self.kernel_initializer(shape, dtype=dtype)

        self.kernel = self.add_weight(shape=self.mask.shape, initializer=scaled, name="kernel")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Maps `(B, H, W, inputs)` to `(B, H, W, filters)`."""
        if self.kernel_size == (1, 1):
            return self._biased(ops.matmul(inputs, kernel_of(self)[0, 0]))
        top, left, right = self.rows_above, self.columns_left, self._right()
        padded = ops.pad(inputs, ((0, 0), (top, 0), (left, right), (0, 0)))
        return self._biased(ops.conv(padded, kernel_of(self), padding="valid"))

    def above(self, rows: Any) -> Any:
        """What the rows above add to a row, with the bias.

        Args:
            rows: `(B, rows_above, W, inputs)`, zeros above the image.

        Returns:
            `(B, W, filters)`.
        """
        if not self.rows_above:
            zeros = ops.zeros((ops.shape(rows)[0], rows.shape[2], self.filters), rows.dtype)
            return self._biased(zeros)
        padded = ops.pad(rows, ((0, 0), (0, 0), (self.columns_left, self._right()), (0, 0)))
        return self._biased(ops.conv(padded, kernel_of(self)[:-1], padding="valid")[:, 0])

    def here(self, pixel: Any, left: Any) -> Any:
        """What the row itself adds to a pixel.

        Args:
            pixel: input at the pixel, `(B, inputs)`.
            left: inputs left of it, `(B, columns_left, inputs)`, zeros beside the image.

        Returns:
            `(B, filters)`.
        """
        taps = (*(left[:, i] for i in range(self.columns_left)), pixel)
        return _under(taps, kernel_of(self)[-1, : self.columns_left + 1])

    def make_kernel(self) -> Any:
        """The masked kernel, in the layer's compute dtype."""
        kernel = ops.cast(self.kernel, self.compute_dtype)
        return kernel * ops.convert_to_tensor(self.mask, dtype=self.compute_dtype)

    def before_row(self, rows: Any, vertical: Any) -> tuple:
        """As `MaskedResidualBlock.before_row`."""
        return self.above(rows), vertical, None

    def pixel(self, inputs: Any, left: Any, side: Any) -> tuple:
        """As `MaskedResidualBlock.pixel`."""
        return side + self.here(inputs, left), inputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(B, H, W, filters)."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kind": self.kind,
            "groups": self.groups,
            "parts": self.parts,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def _right(self) -> int:
        return self.columns_left if self.rows_above else 0

    def _biased(self, outputs: Any) -> Any:
        return outputs if self.bias is None else outputs + ops.cast(self.bias, outputs.dtype)

    def _mask(self, inputs: int) -> np.ndarray:
        left = self.columns_left
        mask = np.ones((self.rows_above + 1, left + 1 + self._right(), inputs, self.filters), "f4")
        mask[-1, left + 1 :] = 0.0
        part = self.filters // self.parts
        entering = np.arange(inputs) * self.groups // inputs
        leaving = np.arange(self.filters) % part * self.groups // part
        order = np.less if self.kind == "A" else np.less_equal
        mask[-1, left] = order(entering[:, None], leaving[None])
        return mask


@keras.saving.register_keras_serializable("keras_ssl")
class MaskedResidualBlock(keras.layers.Layer):
    """The block of the plain PixelCNN: ReLU, 1x1 to half the channels, ReLU, k x k, ReLU, 1x1.

    All convolutions are masked with kind "B". van den Oord et al. 2016,
    https://arxiv.org/abs/1601.06759, section 3.3 and figure 5.

    Args:
        kernel_size: k, odd.
        groups: number of colours.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, kernel_size: int = 3, groups: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size, self.groups = kernel_size, groups

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the three convolutions."""
        width = input_shape[-1]
        half = max(width // 2, self.groups)
        own = {"groups": self.groups, "dtype": self.dtype_policy}
        self.narrow = MaskedConv2D(half, 1, name="narrow", **own)
        self.spread = MaskedConv2D(half, self.kernel_size, name="spread", **own)
        self.widen = MaskedConv2D(width, 1, name="widen", **own)
        self.narrow.build((*input_shape[:-1], width))
        for layer in (self.spread, self.widen):
            layer.build((*input_shape[:-1], half))
        self.built = True

    @property
    def rows_above(self) -> int:
        """Rows above the pixel that the block reaches."""
        return self.spread.rows_above

    @property
    def columns_left(self) -> int:
        """Columns left of the pixel that the block reaches."""
        return self.spread.columns_left

    def call(self, inputs: Any) -> Any:
        """Maps `(B, H, W, F)` to maps of that shape."""
        x = self.spread(ops.relu(self.narrow(ops.relu(inputs))))
        return inputs + self.widen(ops.relu(x))

    def before_row(self, rows: Any, vertical: Any) -> tuple:
        """What is known before the pixels of a row are drawn.

        Args:
            rows: inputs of the layer that the rows above have left, `(B, rows_above, W, ...)`.
            vertical: row of the vertical stack that the layer below gives, where there is one.

        Returns:
            A tensor `(B, W, ...)` that `pixel` needs, column by column; the row of the vertical
            stack that the layer gives; and the row that enters `rows` next, or None where it is
            made of what `pixel` takes.
        """
        return self.spread.above(rows), vertical, None

    def pixel(self, inputs: Any, left: Any, side: Any) -> tuple:
        """Output at one pixel, `(B, F)`.

        Args:
            inputs: `(B, F)`.
            left: what `pixel` took at the columns left of it, `(B, columns_left, ...)`.
            side: `(B, ...)`, from `before_row`.

        Returns:
            The output, and what is to be kept for the pixels that follow, `(B, ...)`.
        """
        taken = ops.relu(_at_pixel(self.narrow, ops.relu(inputs)))
        x = side + self.spread.here(taken, left)
        return inputs + _at_pixel(self.widen, ops.relu(x)), taken

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "groups": self.groups,
        }


@keras.saving.register_keras_serializable("keras_ssl")
class GatedMaskedConv(keras.layers.Layer):
    """A layer of the gated PixelCNN: two stacks that see all pixels before, without a blind spot.

        v' = gate(a),              a = k x k convolution of v, of rows up to this one,
        h' = h + 1x1 gate(1xk h + 1x1 a),    gate(f, g) = tanh(f) sigmoid(g).

    The vertical stack v of a row depends on all rows above it, the horizontal stack h on those and
    on the pixels to the left; colours are masked in h alone. The first layer (`first`) takes the
    image in the place of both: its vertical convolution reaches the rows above only, its horizontal
    one has kind "A", and there is no sum.

    van den Oord et al. 2016, https://arxiv.org/abs/1606.05328, section 2.3 and figure 2. Departures
    from the authors' code: none known.

    Args:
        filters: channels of v and of h.
        kernel_size: k, odd; 3 or more.
        groups: number of colours.
        first: whether it is the first layer.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if the kernel is too small or even.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        groups: int = 1,
        first: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd and at least 3. Received: kernel_size={kernel_size}."
            )
        self.filters, self.kernel_size = filters, kernel_size
        self.groups, self.first = groups, first

    @property
    def rows_above(self) -> int:
        """Rows above the pixel that the vertical convolution reaches."""
        return self.kernel_size // 2

    @property
    def columns_left(self) -> int:
        """Columns left of the pixel that the horizontal convolution reaches."""
        return self.kernel_size // 2

    def build(self, input_shape: Any) -> None:
        """Make the four convolutions."""
        shape = input_shape if self.first else input_shape[0]
        k, filters, own = self.kernel_size, self.filters, {"dtype": self.dtype_policy}
        # Below the first layer, v at a row knows the rows above it alone: its own row may be seen.
        rows, shift = (k // 2, (1, 0)) if self.first else (k // 2 + 1, (0, 0))
        self.vertical = ShiftedConv2D(2 * filters, (rows, k), "down", shift, name="vertical", **own)
        self.horizontal = MaskedConv2D(
            2 * filters,
            (1, k),
            "A" if self.first else "B",
            self.groups,
            parts=2,
            name="horizontal",
            **own,
        )
        self.link = keras.layers.Dense(2 * filters, use_bias=False, name="link", **own)
        self.output_conv = MaskedConv2D(filters, 1, "B", self.groups, name="output", **own)
        self.vertical.build(shape)
        self.horizontal.build(shape)
        self.link.build((*shape[:-1], 2 * filters))
        self.output_conv.build((*shape[:-1], filters))
        self.built = True

    def call(self, inputs: Any) -> list:
        """`[v, h]`, or the image in the first layer, to `[v', h']`, each `(B, H, W, filters)`."""
        v, h = (inputs, inputs) if self.first else inputs
        a = self.vertical(v)
        x = self.output_conv(gate(self.horizontal(h) + self.link(a)))
        return [gate(a), x if self.first else h + x]

    def before_row(self, rows: Any, vertical: Any) -> tuple:
        """As `MaskedResidualBlock.before_row`; `rows` are those of v, or of the image."""
        if not self.first:
            rows = ops.concatenate([rows, vertical[:, None]], axis=1)
        a = self.vertical.row(rows)
        return self.link(a), gate(a), vertical

    def pixel(self, inputs: Any, left: Any, side: Any) -> tuple:
        """As `MaskedResidualBlock.pixel`."""
        x = gate(self.horizontal_here(inputs, left) + side)
        x = _at_pixel(self.output_conv, x)
        return x if self.first else inputs + x, inputs

    def horizontal_here(self, inputs: Any, left: Any) -> Any:
        """The horizontal convolution at one pixel, `(B, 2 filters)`."""
        return self.horizontal._biased(self.horizontal.here(inputs, left))

    def compute_output_shape(self, input_shape: Any) -> list:
        """Two times (B, H, W, filters)."""
        shape = input_shape if self.first else input_shape[0]
        return [(*shape[:-1], self.filters)] * 2

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "groups", "first")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_ssl")
class ShiftedConv2D(keras.layers.Layer):
    """A convolution that is causal by where its kernel lies, without a mask.

    A kernel of kind "down" has the pixel in the middle of its last row, one of kind "down_right" in
    its last row and column. So outputs depend on the rows up to their own, or on those and columns
    up to their own; `shift` leaves further rows and columns out.

    Salimans et al. 2017, https://arxiv.org/abs/1701.05517, section 2.2 and figure 2. Departures
    from the authors' code: a shift moves the input, not the output, so that the first row and
    column hold the bias in the place of zero.

    Args:
        filters: channels of the output.
        kernel_size: height and width; the width is odd for "down".
        kind: "down" or "down_right".
        shift: rows and columns that are left out beside the pixel.
        strides: 1, or 2 to halve height and width: output (a, b) lies at (2a, 2b).
        weight_norm: whether the kernel has weight normalisation (`layers.weight_norm`).
        initial_scale: standard deviation of the outputs after its start.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    output_axis = -1

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        kind: str = "down_right",
        shift: Sequence[int] = (0, 0),
        strides: int = 1,
        weight_norm: bool = False,
        initial_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_shifted(kernel_size, kind)
        self.filters, self.kernel_size, self.kind = filters, _pair(kernel_size), kind
        self.shift, self.strides = _pair(shift), strides
        self.weight_norm, self.initial_scale = weight_norm, initial_scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make kernel and bias, and the gain of weight normalisation."""
        shape = (*self.kernel_size, input_shape[-1], self.filters)
        if self.weight_norm:
            weight_norm.add_weights(self, shape)
        else:
            self.kernel = self.add_weight(shape=shape, name="kernel")
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Maps `(B, H, W, inputs)` to `(B, H / strides, W / strides, filters)`."""
        (rows, _), (height, width) = self.shift, inputs.shape[1:3]
        top = self.kernel_size[0] - 1 + rows
        kept = inputs[:, : height - rows] if rows else inputs
        padded = self._columns(ops.pad(kept, ((0, 0), (top, 0), (0, 0), (0, 0))), width)
        if self.weight_norm:
            x = ops.cast(padded, "float32")
            weight_norm.start(self, lambda kernel: self._conv(x, kernel), self.initial_scale)
        return self._biased(self._conv(padded, kernel_of(self)))

    def row(self, rows: Any) -> Any:
        """A row of the output.

        Args:
            rows: input rows under the kernel, `(B, height of the kernel, W, inputs)`, zeros above
                the image. A shift by rows is the caller's.

        Returns:
            `(B, W / strides, filters)`.
        """
        padded = self._columns(rows, rows.shape[2])
        return self._biased(self._conv(padded, kernel_of(self))[:, 0])

    def above(self, rows: Any) -> Any:
        """What the rows above add to a row of a "down_right" convolution, with the bias.

        Args:
            rows: input rows under the kernel but its last, `(B, height - 1, W, inputs)`.

        Returns:
            `(B, W / strides, filters)`.
        """
        padded = self._columns(rows, rows.shape[2])
        return self._biased(self._conv(padded, kernel_of(self)[:-1])[:, 0])

    def here(self, *taps: Any) -> Any:
        """What the row itself adds to a pixel of a "down_right" convolution.

        Args:
            *taps: inputs under the kernel's last row from left to right, each `(B, inputs)`.

        Returns:
            `(B, filters)`.
        """
        return _under(taps, kernel_of(self)[-1])

    def make_kernel(self) -> Any:
        """The kernel, normalised if it is to be, in the layer's compute dtype."""
        kernel = self.kernel
        if self.weight_norm:
            kernel = weight_norm.normalized(kernel) * self.gain
        return ops.cast(kernel, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(B, H / strides, W / strides, filters)."""
        sides = [side and -(-side // self.strides) for side in input_shape[1:3]]
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "kind", "shift", "strides", "weight_norm")
        own = {name: getattr(self, name) for name in (*names, "initial_scale")}
        return {**super().get_config(), **own}

    def _conv(self, padded: Any, kernel: Any) -> Any:
        # In a row alone the stride is that of its columns.
        return ops.conv(padded, kernel, strides=self.strides, padding="valid")

    def _columns(self, x: Any, width: int) -> Any:
        """`x` with the columns that the kernel reaches beside the image."""
        columns = self.kernel_size[1] - 1
        if self.kind == "down":
            return ops.pad(x, ((0, 0), (0, 0), (columns // 2, columns // 2), (0, 0)))
        shift = self.shift[1]
        kept = x[:, :, : width - shift] if shift else x
        return ops.pad(kept, ((0, 0), (0, 0), (columns + shift, 0), (0, 0)))

    def _biased(self, outputs: Any) -> Any:
        return outputs + ops.cast(self.bias, outputs.dtype)


@keras.saving.register_keras_serializable("keras_ssl")
class ShiftedConv2DTranspose(keras.layers.Layer):
    """The transposed form of `ShiftedConv2D` of stride 2, with weight normalisation.

    Outputs (2a, ...) and (2a + 1, ...) depend on row a, those of kind "down_right" on column b
    alone as well. So called on one row, or on one pixel, it gives the rows, or the four pixels,
    that depend on it.

    Salimans et al. 2017, https://arxiv.org/abs/1701.05517, section 2.3.

    Args:
        filters: channels of the output.
        kernel_size: (2, odd) for "down", (2, 2) for "down_right".
        kind: "down" or "down_right".
        initial_scale: standard deviation of the outputs after the start.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    output_axis = 2

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        kind: str = "down_right",
        initial_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_shifted(kernel_size, kind)
        if kernel_size[0] != 2 or (kind == "down_right" and kernel_size[1] != 2):
            raise ValueError(
                "`kernel_size` must be (2, odd) for 'down' and (2, 2) for 'down_right'. Received: "
                f"{kernel_size} with kind={kind!r}."
            )
        self.filters, self.kernel_size, self.kind = filters, _pair(kernel_size), kind
        self.initial_scale = initial_scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make v `(height, width, filters, inputs)`, g and b."""
        shape = (*self.kernel_size, self.filters, input_shape[-1])
        weight_norm.add_weights(self, shape, self.output_axis)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Maps `(B, h, w, inputs)` to `(B, 2 h, 2 w, filters)`."""
        weight_norm.start(
            self,
            lambda kernel: self._conv(ops.cast(inputs, "float32"), kernel),
            self.initial_scale,
        )
        outputs = self._conv(inputs, kernel_of(self))
        return outputs + ops.cast(self.bias, outputs.dtype)

    def make_kernel(self) -> Any:
        """The normalised kernel, in the layer's compute dtype."""
        kernel = weight_norm.normalized(self.kernel, self.output_axis)
        return ops.cast(kernel * ops.expand_dims(self.gain, -1), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(B, 2 h, 2 w, filters)."""
        sides = [side and 2 * side for side in input_shape[1:3]]
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "kind", "initial_scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _conv(self, inputs: Any, kernel: Any) -> Any:
        x = ops.conv_transpose(inputs, kernel, strides=2, padding="valid")
        first = (
            (self.kernel_size[1] - 2) // 2
            if self.kind == "down_right"
            else (self.kernel_size[1] // 2)
        )
        return x[:, :, first : first + 2 * inputs.shape[2]]


def gate(x: Any) -> Any:
    """tanh(f) sigmoid(g) of `x` = [f, g], side by side on the last axis."""
    f, g = ops.split(x, 2, axis=-1)
    return ops.tanh(f) * ops.sigmoid(g)


def _under(taps: Sequence[Any], kernel: Any) -> Any:
    """N inputs `(B, C)` under a kernel `(n, C, F)`: `(B, F)`."""
    count, channels, filters = kernel.shape
    taps = taps[0] if count == 1 else ops.concatenate(taps, axis=-1)
    return ops.matmul(taps, ops.reshape(kernel, (count * channels, filters)))


def _at_pixel(layer: keras.Layer, x: Any) -> Any:
    """A layer of 1x1 taps on `(B, C)`."""
    return layer(x[:, None, None])[:, 0, 0]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _check_shifted(kernel_size: Sequence[int], kind: str) -> None:
    if kind not in ("down", "down_right"):
        raise ValueError(f"`kind` must be 'down' or 'down_right'. Received: kind={kind!r}.")
    if min(kernel_size) < 1 or (kind == "down" and kernel_size[1] % 2 == 0):
        raise ValueError(
            "`kernel_size` must be positive, and of odd width for 'down'. Received: "
            f"{kernel_size} with kind={kind!r}."
        )
