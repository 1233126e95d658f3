"""The U-net of PixelCNN++, as a network of whole images and as one that draws row by row.

Two streams run side by side: u at a place knows the rows above it, ul those and the pixels to the
left. Both have gated residual blocks at several resolutions on the way down and on the way up; at
three of them:

    down:  n blocks | halve | n blocks | halve | n blocks           (the middle)
    up:    n blocks | double | n + 1 blocks | double | n + 1 blocks

Blocks on the way up take the outputs of the way down as auxiliary inputs, last come first served;
ul takes u too. Salimans et al. 2017, https://arxiv.org/abs/1701.05517, sections 2.3 and 2.4, and
the authors' code.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_ssl.layers.fixed_kernels import fixed_kernels
from keras_ssl.layers.gated_resnet import GatedResidualBlock
from keras_ssl.layers.masked_conv import ShiftedConv2D, ShiftedConv2DTranspose
from keras_ssl.layers.weight_norm import WeightNormDense

_STREAMS = {"u": "down", "ul": "down_right"}  # and the kinds of their convolutions
_KERNELS = {"down": (2, 3), "down_right": (2, 2)}


@keras.saving.register_keras_serializable("keras_ssl")
class WithOnes(keras.layers.Layer):
    """One more channel, of ones, by which a convolution tells the image from the padding."""

    def call(self, inputs: Any) -> Any:
        """`(..., C)` to `(..., C + 1)`."""
        return ops.concatenate([inputs, ops.ones_like(inputs[..., :1])], axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """One channel more."""
        return (*input_shape[:-1], input_shape[-1] + 1)


def pixel_unet(
    shape: tuple, width: int, blocks: int, levels: int, numbers: int, dropout: float = 0.0
) -> keras.Model:
    """The network from images in [0, 1] to the parameters of each pixel's distribution.

    Args:
        shape: (H, W, C), the sides multiples of 2^(levels - 1).
        width: channels of each stream.
        blocks: n.
        levels: number of resolutions.
        numbers: parameters a pixel.
        dropout: rate within the blocks.

    Returns:
        A built functional model, to float32 `(B, H, W, numbers)`.
    """
    images = keras.Input(shape, name="images")
    # In float32: the 256 values are not all different in half precision on [0, 1].
    x = keras.layers.Rescaling(2.0, -1.0, dtype="float32", name="scaled")(images)
    x = WithOnes(name="with_ones")(x)
    salts = iter(range(100 * blocks))

    def block(name, u, ul, u_side=None, ul_side=()):
        """A block of each stream; ul takes the new u."""
        own = {"dropout": dropout}
        inputs = u if u_side is None else [u, u_side]
        u = GatedResidualBlock(
            "down", u_side is not None, salt=next(salts), name=f"{name}_u", **own
        )(inputs)
        side = keras.layers.Concatenate(name=f"{name}_side")([u, *ul_side]) if ul_side else u
        ul = GatedResidualBlock("down_right", True, salt=next(salts), name=f"{name}_ul", **own)(
            [ul, side]
        )
        return u, ul

    def conv(kind, name, kernel=None, **own):
        kernel = kernel or _KERNELS[kind]
        return ShiftedConv2D(width, kernel, kind, weight_norm=True, name=name, **own)

    u = conv("down", "start_u", shift=(1, 0))(x)
    ul = keras.layers.Add(name="start_ul")(
        [
            conv("down", "start_above", (1, 3), shift=(1, 0))(x),
            conv("down_right", "start_left", (2, 1), shift=(0, 1))(x),
        ]
    )
    kept = []
    for level in range(levels):
        if level:
            u, ul = (
                conv(kind, f"halve_{level}_{stream}", strides=2)(x)
                for (stream, kind), x in zip(_STREAMS.items(), (u, ul))
            )
        kept.append((u, ul))
        for i in range(blocks):
            u, ul = block(f"down_{level}_{i}", u, ul)
            kept.append((u, ul))
    u, ul = kept.pop()
    for level in reversed(range(levels)):
        if level < levels - 1:
            u, ul = (
                ShiftedConv2DTranspose(width, _KERNELS[kind], kind, name=f"double_{level}_{s}")(x)
                for (s, kind), x in zip(_STREAMS.items(), (u, ul))
            )
        for i in range(blocks if level == levels - 1 else blocks + 1):
            u_side, ul_side = kept.pop()
            u, ul = block(f"up_{level}_{i}", u, ul, u_side, [ul_side])
    x = keras.layers.Activation("elu", name="last")(ul)
    x = WeightNormDense(numbers, dtype="float32", name="parameters")(x)
    return keras.Model(images, x, name="pixel_cnn_pp")


def middle(network: keras.Model, blocks: int, levels: int) -> Any:
    """Both streams in the middle of a `pixel_unet`, side by side: a symbolic map."""
    last = [network.get_layer(f"down_{levels - 1}_{blocks - 1}_{s}").output for s in _STREAMS]
    return keras.layers.Concatenate(name="middle")(last)


class RowByRow:
    """A `pixel_unet` that draws images, some rows at a time, at the cost of one pass over them.

    u is computed row by row. For ul, what the row above adds to each convolution is computed once a
    row; then pixel after pixel what the row itself adds, in a loop over groups of columns. A group
    has one column of the lowest resolution that the row belongs to: at three resolutions, 4 pixels
    in the first of four rows, 2 in the third, 1 in the others. What a group leaves is what the next
    one needs to its left, and all groups of a row are what the next row needs above it.

    Args:
        network: made by `pixel_unet`.
        blocks: n of it.
        levels: number of its resolutions.
    """

    def __init__(self, network: keras.Model, blocks: int, levels: int):
        self.network, self.layer = network, network.get_layer
        self.blocks, self.levels = blocks, levels
        self.image_shape = tuple(network.input_shape[1:])

    def start(self, count: int) -> dict:
        """What is known above the image: zeros, by the name of the layer that needs them."""
        (_, width, channels), layer = self.image_shape, self.layer("start_u")
        zeros = lambda *shape: ops.zeros((count, *shape), layer.compute_dtype)  # noqa: E731
        state = {"pixels": zeros(2, width, channels + 1)}
        for level in range(self.levels):
            row = zeros(width >> level, layer.filters)
            twice = zeros(width >> level, 2 * layer.filters)
            for name in self._names("down", level) + self._names("up", level):
                state |= {f"{name}_{s}": (twice, twice) for s in _STREAMS}
            if level < self.levels - 1:
                state |= {f"halve_{level + 1}_{s}": row for s in _STREAMS}
        return state

    def rows(self, state: dict, given: Any, draw: Callable) -> tuple:
        """The next 2^(levels - 1) rows.

        Args:
            state: as `start` begins it.
            given: what `draw` needs at each pixel, `(B, rows, W, numbers)`.
            draw: function of the parameters of a pixel's distribution, `(B, ...)`, and of what is
                given there, to the pixel `(B, C)` in [0, 1].

        Returns:
            The state after them, and the rows, `(B, rows, W, C)`.
        """
        state, waiting, drawn = dict(state), {}, []
        with fixed_kernels(self.network):
            for r in range(2 ** (self.levels - 1)):
                drawn.append(self._row(r, state, waiting, given[:, r], draw))
        return state, ops.stack(drawn, axis=1)

    def _row(self, r: int, state: dict, waiting: dict, given: Any, draw: Callable) -> Any:
        """Row r of those; `state`, and `waiting` with rows of a lower resolution, are updated."""
        pixels = state["pixels"]
        above = pixels[:, 1:]
        at = {
            "start": self.layer("start_above").row(above) + self.layer("start_left").above(above),
            "given": given,
        }
        self._row_of_u(0, r, self.layer("start_u").row(pixels), state, waiting, at)
        self._above(0, r, state, waiting, at)
        size = 2 ** (self._levels_of(r) - 1)
        groups = self.image_shape[1] // size
        columns = keras.tree.map_structure(lambda x: _by_groups(x, groups), at)

        def group(left, at):
            new = self._group(r, size, left, at, draw)
            return new, new  # all that is carried is kept, as `keras.ops.scan` wants it

        left = self._nothing_left(r, size, given)
        _, found = ops.scan(group, left, columns)
        found = keras.tree.map_structure(_by_rows, found)
        for level in range(self.levels - 1):
            name = f"double_{level}_ul"
            if name in found:
                waiting[name] = found.pop(name)
        drawn = found.pop("drawn")
        state["pixels"] = ops.concatenate([above, found.pop("pixels")[:, None]], axis=1)
        state.update(found)
        return drawn

    def _row_of_u(self, level: int, r: int, x: Any, state: dict, waiting: dict, at: dict) -> Any:
        """The stream u in row r of a level; what ul needs of it goes to `at`."""
        kept = [x]
        for name in self._names("down", level):
            x = self._block_of_u(name, x, None, state, at)
            kept.append(x)
        if level == self.levels - 1:
            x = kept.pop()
        else:
            halve, double = f"halve_{level + 1}_u", f"double_{level}_u"
            above, state[halve] = state[halve], x
            if r % 2 == 0:
                lower = self.layer(halve).row(ops.stack([above, x], axis=1))
                lower = self._row_of_u(level + 1, r // 2, lower, state, waiting, at)
                two = self.layer(double)(lower[:, None])
                x, waiting[double] = two[:, 0], two[:, 1]
            else:
                x = waiting[double]
        for name in self._names("up", level):
            x = self._block_of_u(name, x, kept.pop(), state, at)
        return x

    def _block_of_u(self, name: str, x: Any, side: Any, state: dict, at: dict) -> Any:
        own = f"{name}_u"
        x, state[own] = self.layer(own).row(x, side, state[own])
        at[f"{name}/side"] = x
        return x

    def _above(self, level: int, r: int, state: dict, waiting: dict, at: dict) -> None:
        """What the rows above add to the convolutions of ul in row r, to `at`."""
        for name in self._names("down", level) + self._names("up", level):
            own = f"{name}_ul"
            at[f"{own}/above"] = self.layer(own).above(state[own])
        if level == self.levels - 1:
            return
        halve, double = f"halve_{level + 1}_ul", f"double_{level}_ul"
        if r % 2 == 0:
            at[f"{halve}/above"] = self.layer(halve).above(state[halve][:, None])
            self._above(level + 1, r // 2, state, waiting, at)
        else:
            at[double] = waiting[double]

    def _group(self, r: int, size: int, left: dict, at: dict, draw: Callable) -> dict:
        """The stream ul at `size` columns of row r, and their pixels; all that is to be kept."""
        new, lower = {}, {}
        for c in range(size):
            pixel = _left_of("pixels", c, left, new)
            x = at["start"][:, c] + self.layer("start_left").here(pixel)
            x = self._column(0, r, c, x, at, left, new, lower)
            parameters = self.layer("parameters")(self.layer("last")(x))
            drawn = draw(parameters, at["given"][:, c])
            seen = ops.cast(self.layer("scaled")(drawn), x.dtype)
            _keep(new, "pixels", self.layer("with_ones")(seen))
            _keep(new, "drawn", drawn)
        return {name: _stack(columns) for name, columns in new.items()}

    def _column(
        self, level: int, r: int, c: int, x: Any, at: dict, left: dict, new: dict, lower: dict
    ) -> Any:
        """The stream ul at column c of a group, at a level; `new` and `lower` are updated."""
        kept = [x]
        for name in self._names("down", level):
            x = self._block_of_ul(name, c, x, [], at, left, new)
            kept.append(x)
        if level == self.levels - 1:
            x = kept.pop()
        else:
            halve, double = f"halve_{level + 1}_ul", f"double_{level}_ul"
            before = _left_of(halve, c, left, new)
            _keep(new, halve, x)
            if r % 2 == 0 and c % 2 == 0:
                y = self.layer(halve).here(before, x)
                y = y + at[f"{halve}/above"][:, c // 2]
                y = self._column(level + 1, r // 2, c // 2, y, at, left, new, lower)
                lower[double] = self.layer(double)(y[:, None, None])  # (B, 2, 2, F)
                _keep(new, double, lower[double][:, 1, 0])
                _keep(new, double, lower[double][:, 1, 1])
            x = lower[double][:, 0, c % 2] if r % 2 == 0 else at[double][:, c]
        for name in self._names("up", level):
            x = self._block_of_ul(name, c, x, [kept.pop()], at, left, new)
        return x

    def _block_of_ul(
        self, name: str, c: int, x: Any, side: list, at: dict, left: dict, new: dict
    ) -> Any:
        own = f"{name}_ul"
        side = ops.concatenate([at[f"{name}/side"][:, c], *side], axis=-1)
        above = tuple(row[:, c] for row in at[f"{own}/above"])
        x, kept = self.layer(own).here(x, side, _left_of(own, c, left, new), above)
        _keep(new, own, kept)
        return x

    def _nothing_left(self, r: int, size: int, given: Any) -> dict:
        """What a group of row r would leave, all zeros: what is left of the first."""
        layer, channels = self.layer("start_u"), self.image_shape[2]
        count = ops.shape(given)[0]

        def zeros(level, channels, dtype=layer.compute_dtype):
            return ops.zeros((count, size >> level, channels), dtype)

        left = {"pixels": zeros(0, channels + 1), "drawn": zeros(0, channels, "float32")}
        for level in range(self._levels_of(r)):
            one, twice = zeros(level, layer.filters), zeros(level, 2 * layer.filters)
            for name in self._names("down", level) + self._names("up", level):
                left[f"{name}_ul"] = (twice, twice)
            if level < self.levels - 1:
                left[f"halve_{level + 1}_ul"] = one
                if (r >> level) % 2 == 0:
                    left[f"double_{level}_ul"] = one
        return left

    def _levels_of(self, r: int) -> int:
        """Number of resolutions that row r of a step belongs to."""
        return sum(r % 2**level == 0 for level in range(self.levels))

    def _names(self, way: str, level: int) -> list[str]:
        count = self.blocks + (way == "up" and level < self.levels - 1)
        return [f"{way}_{level}_{i}" for i in range(count)]


def _by_groups(x: Any, groups: int) -> Any:
    """`(B, w, F)` as `(groups, B, w / groups, F)`."""
    x = ops.reshape(x, (-1, groups, x.shape[1] // groups, x.shape[2]))
    return ops.swapaxes(x, 0, 1)


def _by_rows(x: Any) -> Any:
    """`(groups, B, w, F)` as `(B, groups w, F)`."""
    return ops.reshape(ops.swapaxes(x, 0, 1), (x.shape[1], -1, x.shape[3]))


def _keep(new: dict, name: str, value: Any) -> None:
    new.setdefault(name, []).append(value)


def _left_of(name: str, c: int, left: dict, new: dict) -> Any:
    """What was kept one column left of column c of this group."""
    if c:
        return new[name][c - 1]
    return keras.tree.map_structure(lambda x: x[:, -1], left[name])


def _stack(columns: list) -> Any:
    return keras.tree.map_structure(lambda *values: ops.stack(values, axis=1), *columns)
