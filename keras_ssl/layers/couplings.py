"""Couplings of normalising flows, and the networks within them.

A coupling leaves one half of its input as it is, and moves the other by what a network makes of the
first: invertible whatever the network computes, with a triangular Jacobian. It has the convention
of `keras_ssl.layers.flows`. How an input is halved:

    "halves"        first and second half of the channels
    "alternating"   channels (of a vector: values) 0, 2, 4, ... and 1, 3, 5, ...
    "checkerboard"  places where row + column is even, and odd; both keep the whole shape, with
                    zeros where they have no value

The network sees the first, and with `flip` the second.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.layers.flows import no_change, same_shape, sum_of_image
from keras_ssl.layers.starting import is_starting

SPLITS = ("halves", "alternating", "checkerboard")
SCALES = ("tanh", "sigmoid", "exp")
_SIGMOID_OFFSET = 2.0  # scales of Glow start at sigmoid(2) = 0.88


@keras.saving.register_keras_serializable("keras_ssl")
class AdditiveCoupling(keras.layers.Layer):
    """Shift one half by a function m of the other: y_2 = x_2 + m(x_1), log_det = 0.

    Dinh et al. 2014 (NICE), https://arxiv.org/abs/1410.8516, section 3.2. Departures from the
    authors' code: none known.

    Args:
        network: m, a built `keras.Model` from one half to the shape of the other.
        split: how the input is halved, one of `SPLITS`.
        flip: whether the network sees the second half.
        remat: whether gradients compute the network again, in the place of memory for what it
            computed.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `split` is unknown, or the network has other shapes.
    """

    compute_output_shape = same_shape

    def __init__(
        self,
        network: keras.Model,
        split: str = "halves",
        flip: bool = False,
        remat: bool = False,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        _check_split(split)
        self.network, self.split, self.flip, self.remat = network, split, flip, remat

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Check the network's shapes."""
        _check_network(self, input_shape, 1)
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and zeros."""
        seen, moved = halve(x, self.split, self.flip)
        return _join(seen, moved + self._shift(seen), self.split, self.flip), no_change(x)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        seen, moved = halve(y, self.split, self.flip)
        return _join(seen, moved - self._shift(seen), self.split, self.flip)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), **_config(self)}

    @classmethod
    def from_config(cls, config: dict) -> "AdditiveCoupling":
        """A coupling of this config, with fresh weights."""
        return cls(**_with_network(config))

    def _shift(self, seen: Any) -> Any:
        return _where_moved(_output(self, seen), self.split, self.flip)


@keras.saving.register_keras_serializable("keras_ssl")
class AffineCoupling(keras.layers.Layer):
    """Shift and scale one half by functions t, s of the other.

        y_2 = (x_2 + t(x_1)) exp(s(x_1)),    log_det = sum_d s_d

    with (t, r) the two halves of the network's output channels, and

        "tanh"     s = g tanh(r), with a learned bound g a channel, at first 1 (RealNVP)
        "sigmoid"  s = log sigmoid(r + 2), below 0 (Glow)
        "exp"      s = r: then -t and exp(-s) are mean and standard deviation of x_2 given x_1, and
                   y_2 is standard normal if x_2 has that distribution (the priors of Glow's splits)

    Dinh et al. 2016 (RealNVP), https://arxiv.org/abs/1605.08803, sections 3.2 to 3.4; Kingma and
    Dhariwal 2018 (Glow), https://arxiv.org/abs/1807.03039, section 3.3. Departures from the
    authors' code: the order of the network's output channels.

    Args:
        network: a built `keras.Model` from one half to twice the channels of the other.
        split: how the input is halved, one of `SPLITS`.
        flip: whether the network sees the second half.
        scale: one of the three above.
        remat: whether gradients compute the network again, in the place of memory for what it
            computed.
        dtype: of weights and arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `split` or `scale` is unknown, or the network has other shapes.
    """

    compute_output_shape = same_shape

    def __init__(
        self,
        network: keras.Model,
        split: str = "halves",
        flip: bool = False,
        scale: str = "tanh",
        remat: bool = False,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        _check_split(split)
        if scale not in SCALES:
            raise ValueError(f"`scale` must be one of {SCALES}. Received: scale={scale!r}.")
        self.network, self.split, self.flip, self.remat = network, split, flip, remat
        self.scale = scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Check the network's shapes; make g, `(C,)`, where there is one."""
        channels = _check_network(self, input_shape, 2)
        self.bound = None
        if self.scale == "tanh":
            self.bound = self.add_weight((channels,), "ones", name="bound")
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det."""
        seen, moved = halve(x, self.split, self.flip)
        shift, log_scale = self._shift_and_scale(seen)
        moved = (moved + shift) * ops.exp(log_scale)
        return _join(seen, moved, self.split, self.flip), sum_of_image(log_scale)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        seen, moved = halve(y, self.split, self.flip)
        shift, log_scale = self._shift_and_scale(seen)
        return _join(seen, moved * ops.exp(-log_scale) - shift, self.split, self.flip)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), **_config(self), "scale": self.scale}

    @classmethod
    def from_config(cls, config: dict) -> "AffineCoupling":
        """A coupling of this config, with fresh weights."""
        return cls(**_with_network(config))

    def _shift_and_scale(self, seen: Any) -> tuple[Any, Any]:
        shift, raw = ops.split(_output(self, seen), 2, axis=-1)
        if self.scale == "tanh":
            log_scale = self.bound * ops.tanh(raw)
        elif self.scale == "sigmoid":
            log_scale = ops.log_sigmoid(raw + _SIGMOID_OFFSET)
        else:
            log_scale = raw
        return tuple(_where_moved(part, self.split, self.flip) for part in (shift, log_scale))


@keras.saving.register_keras_serializable("keras_ssl")
class Seen(keras.layers.Layer):
    """The half of its input that the network of a coupling sees.

    Args:
        split: one of `SPLITS`.
        flip: whether the second half.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, split: str, flip: bool, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        _check_split(split)
        self.split, self.flip = split, flip

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """Shape of the half."""
        return input_shape[0], *half_shapes(input_shape[1:], self.split, self.flip)[0]

    def call(self, x: Any) -> Any:
        """The half."""
        return halve(x, self.split, self.flip)[0]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "split": self.split, "flip": self.flip}


def halve(x: Any, split: str, flip: bool) -> tuple[Any, Any]:
    """What the network of a coupling sees of `x`, and what is moved."""
    if split == "checkerboard":
        moved = _moved_places(x.shape, flip, x.dtype)
        return x * (1.0 - moved), x * moved
    middle = x.shape[-1] // 2
    if split == "halves":
        first, second = x[..., :middle], x[..., middle:]
    else:
        first, second = x[..., 0::2], x[..., 1::2]
    return (second, first) if flip else (first, second)


def half_shapes(shape: Sequence[int], split: str, flip: bool = False) -> tuple[tuple, tuple]:
    """Shapes, without the batch, of what `halve` gives for an input of `shape`."""
    *places, channels = shape
    if split == "checkerboard":
        return tuple(shape), tuple(shape)
    first, second = (*places, channels // 2), (*places, channels - channels // 2)
    return (second, first) if flip else (first, second)


def _join(seen: Any, moved: Any, split: str, flip: bool) -> Any:
    """The inverse of `halve`."""
    if split == "checkerboard":
        return seen + moved
    parts = [moved, seen] if flip else [seen, moved]
    if split == "halves":
        return ops.concatenate(parts, axis=-1)
    return ops.reshape(ops.stack(parts, axis=-1), (-1, *seen.shape[1:-1], 2 * seen.shape[-1]))


def _output(layer: keras.Layer, seen: Any) -> Any:
    """What the network of a coupling makes of `seen`."""
    if layer.remat and not is_starting():  # the start assigns to weights, which needs no gradient
        return keras.remat(lambda x: layer.network(x))(seen)
    return layer.network(seen)


def _where_moved(values: Any, split: str, flip: bool) -> Any:
    """Of the network's output on a checkerboard, the places that are moved; zeros elsewhere."""
    if split != "checkerboard":
        return values
    return values * _moved_places(values.shape, flip, values.dtype)


def _moved_places(shape: Sequence[int | None], flip: bool, dtype: Any) -> Any:
    """1 at the places of a checkerboard that are moved, else 0: `(H, W, 1)`."""
    rows, columns = np.indices(shape[1:3])
    return ops.cast(((rows + columns) % 2 != int(flip))[..., None], dtype)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}.")


def _check_network(layer: keras.Layer, input_shape: Sequence[int | None], maps: int) -> int:
    """Channels that are moved; raises unless the network fits, with `maps` outputs for each."""
    shape = tuple(input_shape[1:])
    if layer.split == "alternating" and shape[-1] % 2:
        raise ValueError(
            f"`split='alternating'` needs an even number of channels. Received: {shape[-1]}."
        )
    seen, moved = half_shapes(shape, layer.split, layer.flip)
    wanted = seen, (*moved[:-1], maps * moved[-1])
    given = tuple(layer.network.input_shape[1:]), tuple(layer.network.output_shape[1:])
    if given != wanted:
        raise ValueError(
            f"`network` must be from {wanted[0]} to {wanted[1]} for an input of {shape}. "
            f"Received: a network from {given[0]} to {given[1]}."
        )
    return moved[-1]


def _config(layer: keras.Layer) -> dict:
    network = keras.saving.serialize_keras_object(layer.network)
    return {"network": network, "split": layer.split, "flip": layer.flip, "remat": layer.remat}


def _with_network(config: dict) -> dict:
    return {**config, "network": keras.saving.deserialize_keras_object(config["network"])}
