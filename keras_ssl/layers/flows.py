"""Invertible layers: what normalising flows are made of.

The convention of all of them, and of those in `couplings.py`: a layer f of a flow is called as

    y, log_det = layer(x)           y = f(x),  log_det = log |det df/dx| of each image, `(B,)`
    x = layer.inverse(y)            exact up to rounding

Channels are last. Weights and arithmetic are float32 under every policy (`dtype` is an argument of
the constructor for tests, which take float64), linear maps without TF32 on GPUs: a log-determinant
sums thousands of terms, and an inverse must undo what was done.

Activation normalisation starts from data: within `starting`, a layer that is called eagerly sets
its weights from its own input before it applies them. So one pass starts a whole flow, layer by
layer.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import scipy.linalg
from keras import ops

from keras_ssl import distribute
from keras_ssl.layers.starting import is_starting

_LEAST_SPREAD = 1e-6  # added to a channel's standard deviation
_SPEED = 3.0  # of log-scales, see `ActNorm`


def same_shape(layer: keras.layers.Layer, input_shape: Sequence[int | None]) -> tuple:
    """Shapes of y, like x, and of log_det: a `compute_output_shape`.

    Without it, Keras would trace whole flows to find out, several times.
    """
    return tuple(input_shape), (input_shape[0],)


@keras.saving.register_keras_serializable("keras_ssl")
class ActNorm(keras.layers.Layer):
    """Activation normalisation: one offset b and one scale a channel, learned like any weight.

        y = (x + b) exp(3 l),    log_det = 3 (places) sum_c l_c

    Under `starting`, b and l are set so that every channel of y has mean 0 and variance 1 over the
    images of the call. Unlike batch normalisation it does not depend on the batch afterwards. The 3
    is the authors': it lets log-scales move three times as fast under Adam.

    Kingma and Dhariwal 2018, https://arxiv.org/abs/1807.03039, section 3.1. Departures from the
    authors' code: none known.

    Args:
        center: whether there is an offset; without, the start makes the variance 1 alone.
        from_data: whether `starting` sets the weights; if not, the layer starts as the identity.
        dtype: of weights and arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    compute_output_shape = same_shape

    def __init__(
        self, center: bool = True, from_data: bool = True, dtype: Any = "float32", **kwargs: Any
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.center, self.from_data = center, from_data

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make b and l, `(C,)`, zero."""
        channels = input_shape[-1:]
        self._places = math.prod(input_shape[1:-1])
        self.bias = self.add_weight(channels, "zeros", name="bias") if self.center else None
        self.log_scale = self.add_weight(channels, "zeros", name="log_scale")
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det of `x`, `(B, ..., C)`."""
        if self.from_data and is_starting():
            self._start(x)
        log_scale = _SPEED * ops.convert_to_tensor(self.log_scale)
        y = (x + self.bias if self.center else x) * ops.exp(log_scale)
        return y, no_change(x) + self._places * ops.sum(log_scale)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        x = y * ops.exp(-_SPEED * ops.convert_to_tensor(self.log_scale))
        return x - self.bias if self.center else x

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "center": self.center, "from_data": self.from_data}

    def _start(self, x: Any) -> None:
        mean, variance = ops.moments(x, axes=list(range(len(x.shape) - 1)))
        if self.center:
            self.bias.assign(-mean)
        self.log_scale.assign(-ops.log(ops.sqrt(variance) + _LEAST_SPREAD) / _SPEED)


@keras.saving.register_keras_serializable("keras_ssl")
class Invertible1x1(keras.layers.Layer):
    """An invertible linear map of the channels, the same at each place; it starts as a rotation.

        y = x W,    W = P L (U + diag(s exp(l))),    log_det = (places) sum_c l_c

    with P a fixed permutation, L unit lower and U strictly upper triangular, and s fixed signs, so
    that the determinant costs nothing and the inverse two triangular solves.

    Kingma and Dhariwal 2018, https://arxiv.org/abs/1807.03039, section 3.2. Departures from the
    authors' code: the LU form of the paper (theirs takes the determinant of W itself by default).

    Args:
        dtype: of weights and arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    compute_output_shape = same_shape

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the factors `(C, C)` and s, l `(C,)` of a random rotation."""
        channels = input_shape[-1]
        self._places = math.prod(input_shape[1:-1])
        # Python's generator, as Keras' initializers: `keras.utils.set_random_seed` decides.
        rng = np.random.default_rng(random.getrandbits(32))
        rotation, _ = np.linalg.qr(rng.standard_normal((channels, channels)))
        permutation, lower, upper = scipy.linalg.lu(rotation)
        diagonal = np.diag(upper)
        self.lower = self._weight("lower", np.tril(lower, -1))
        self.upper = self._weight("upper", np.triu(upper, 1))
        self.log_scale = self._weight("log_scale", np.log(np.abs(diagonal)))
        self.sign = self._weight("sign", np.sign(diagonal), trainable=False)
        self.permutation = self._weight("permutation", permutation, trainable=False)
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det of `x`, `(B, ..., C)`."""
        lower, upper = self._factors()
        w = distribute.matmul_float32(distribute.matmul_float32(self._permutation(), lower), upper)
        return _map_channels(x, w), no_change(x) + self._places * ops.sum(self.log_scale)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        lower, upper = self._factors()
        # W^-1 = U^-1 (L^-1 P^T), of the small matrices alone.
        right = ops.solve_triangular(lower, ops.transpose(self._permutation()), lower=True)
        return _map_channels(y, ops.solve_triangular(upper, right, lower=False))

    def _permutation(self) -> Any:
        return ops.convert_to_tensor(self.permutation)

    def _factors(self) -> tuple[Any, Any]:
        channels = self.log_scale.shape[0]
        unit = ops.eye(channels, dtype=self.dtype)
        below = ops.cast(np.tril(np.ones((channels, channels)), -1), self.dtype)
        diagonal = self.sign * ops.exp(self.log_scale)
        return self.lower * below + unit, self.upper * ops.transpose(below) + unit * diagonal

    def _weight(self, name: str, value: np.ndarray, trainable: bool = True) -> keras.Variable:
        first = lambda shape, dtype=None: ops.cast(value, dtype)  # noqa: E731
        return self.add_weight(value.shape, first, trainable=trainable, name=name)


@keras.saving.register_keras_serializable("keras_ssl")
class Squeeze(keras.layers.Layer):
    """Blocks of 2x2 places become one place of four times the channels; log_det is 0.

    Channel 4 c + 2 i + j of y at (h, w) is channel c of x at (2 h + i, 2 w + j), the order of both
    papers' code. `keras.ops`' and TensorFlow's `space_to_depth` have another one.

    Dinh et al. 2016, https://arxiv.org/abs/1605.08803, section 3.6; Kingma and Dhariwal 2018,
    https://arxiv.org/abs/1807.03039. Departures from the authors' code: none known.

    Args:
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if height or width is odd.
    """

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Check the shape `(B, H, W, C)`."""
        if input_shape[1] % 2 or input_shape[2] % 2:
            raise ValueError(
                "A squeeze needs an even height and width. Received: maps of "
                f"{input_shape[1]}x{input_shape[2]}. Use fewer levels, or images whose sides are "
                "multiples of a larger power of 2."
            )
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """Shapes of the output and of log_det."""
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, 4 * channels), (batch,)

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output `(B, H/2, W/2, 4C)` of `x`, `(B, H, W, C)`, and zeros."""
        _, height, width, channels = x.shape
        y = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        y = ops.transpose(y, (0, 1, 3, 5, 2, 4))
        return ops.reshape(y, (-1, height // 2, width // 2, 4 * channels)), no_change(x)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        _, height, width, channels = y.shape
        x = ops.reshape(y, (-1, height, width, channels // 4, 2, 2))
        x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels // 4))


@keras.saving.register_keras_serializable("keras_ssl")
class Permutation(keras.layers.Layer):
    """The channels in another order, fixed; log_det is 0.

    Args:
        order: channel i of y is channel `order[i]` of x; each from 0 to C - 1 once.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `order` is no permutation.
    """

    compute_output_shape = same_shape

    def __init__(self, order: Sequence[int], dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        self.order = [int(place) for place in order]
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"`order` must hold each number from 0 to {len(self.order) - 1} once. "
                f"Received: order={self.order}."
            )

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and zeros."""
        return ops.take(x, self.order, axis=-1), no_change(x)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        return ops.take(y, np.argsort(self.order).tolist(), axis=-1)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "order": self.order}


@keras.saving.register_keras_serializable("keras_ssl")
class Rescale(keras.layers.Layer):
    """A fixed affine map of all values, y = scale x + offset; log_det = D log |scale|.

    Args:
        scale: not 0.
        offset: any number.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `scale` is 0.
    """

    compute_output_shape = same_shape

    def __init__(self, scale: float, offset: float = 0.0, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        if not scale:
            raise ValueError(f"`scale` must not be 0. Received: scale={scale}.")
        self.scale, self.offset = scale, offset

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det."""
        change = math.prod(x.shape[1:]) * math.log(abs(self.scale))
        return self.scale * x + self.offset, no_change(x) + change

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        return (y - self.offset) / self.scale

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


@keras.saving.register_keras_serializable("keras_ssl")
class Flatten(keras.layers.Layer):
    """Images as vectors, row by row, channels last; log_det is 0.

    Args:
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Note the images' shape."""
        self._shape = tuple(input_shape[1:])
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """Shapes of the output and of log_det."""
        return (input_shape[0], math.prod(input_shape[1:])), (input_shape[0],)

    def call(self, x: Any) -> tuple[Any, Any]:
        """The vectors `(B, D)` and zeros."""
        return _flat(x), no_change(x)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        return ops.reshape(y, (-1, *self._shape))


@keras.saving.register_keras_serializable("keras_ssl")
class Logit(keras.layers.Layer):
    """From pixels in [0, 1] to all real numbers.

        y = logit(p),  p = alpha + (1 - 2 alpha) x,
        log_det = sum_d softplus(y_d) + softplus(-y_d) + log(1 - 2 alpha)

    alpha keeps p away from 0 and 1, where the logit is infinite. The inverse of a sample may lie
    outside [0, 1], by alpha / (1 - 2 alpha) at most.

    Dinh et al. 2016, https://arxiv.org/abs/1605.08803, section 4.1. Departures from the paper: p is
    symmetric, as in implementations (the paper writes alpha + (1 - alpha) x).

    Args:
        alpha: in (0, 0.5).
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `alpha` is outside its range.
    """

    compute_output_shape = same_shape

    def __init__(self, alpha: float = 0.05, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        if not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must be in (0, 0.5). Received: alpha={alpha}.")
        self.alpha = alpha

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det of `x` in [0, 1]."""
        p = self.alpha + (1.0 - 2.0 * self.alpha) * x
        y = ops.log(p) - ops.log1p(-p)
        steepness = ops.softplus(y) + ops.softplus(-y) + math.log(1.0 - 2.0 * self.alpha)
        return y, sum_of_image(steepness)

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        return (ops.sigmoid(y) - self.alpha) / (1.0 - 2.0 * self.alpha)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("keras_ssl")
class Whitening(keras.layers.Layer):
    """A fixed linear map of vectors that makes values uncorrelated, with variance 1.

        y = (x - m) V diag(s) V^T,    s_d = lambda_d^(-1/2),    log_det = sum_d log s_d

    with m the mean and V diag(lambda) V^T the covariance that `fit` was given ("ZCA": of all
    whitening maps the nearest to the identity, so that places stay what they were). At first it is
    the identity.

    Krizhevsky 2009, appendix A. Departures: small eigenvalues can be pooled, see `fit`.

    Args:
        dtype: of weights and arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    compute_output_shape = same_shape

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make m, s `(D,)` and V `(D, D)`, none of them trained."""
        size = input_shape[-1]
        still = {"trainable": False}
        self.mean = self.add_weight((size,), "zeros", name="mean", **still)
        self.scale = self.add_weight((size,), "ones", name="scale", **still)
        self.directions = self.add_weight((size, size), "identity", name="directions", **still)
        self.built = True

    def fit(self, mean: np.ndarray, covariance: np.ndarray, rank: int) -> None:
        """Set the map from moments.

        Args:
            mean: `(D,)`.
            covariance: `(D, D)`.
            rank: largest eigenvalues that are taken as they are; the smaller ones, which few images
                do not tell, are replaced by their mean, as in probabilistic PCA (Tipping and Bishop
                1999, https://doi.org/10.1111/1467-9868.00196). At least 1.
        """
        eigenvalues, directions = scipy.linalg.eigh(covariance)  # in increasing order
        pooled = len(eigenvalues) - rank
        if pooled > 0:
            eigenvalues[:pooled] = eigenvalues[:pooled].mean()
        self.mean.assign(mean)
        self.scale.assign(1.0 / np.sqrt(eigenvalues))
        self.directions.assign(directions)

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det."""
        y = self._along(x - self.mean, ops.convert_to_tensor(self.scale))
        return y, no_change(x) + ops.sum(ops.log(self.scale))

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        return self._along(y, 1.0 / self.scale) + self.mean

    def _along(self, x: Any, scale: Any) -> Any:
        """`x` with its components along the directions scaled."""
        v = ops.convert_to_tensor(self.directions)
        along = distribute.matmul_float32(x, v)
        return distribute.matmul_float32(along * scale, ops.transpose(v))


@keras.saving.register_keras_serializable("keras_ssl")
class Chain(keras.layers.Layer):
    """Flow layers one after the other; log-determinants add up.

    Args:
        steps: flow layers, the first first.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, steps: Sequence[keras.Layer], dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        self.steps = list(steps)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Build the steps, each for what the one before gives."""
        shape = tuple(input_shape)
        for step in self.steps:
            if not step.built:
                step.build(shape)
            shape, _ = step.compute_output_shape(shape)
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """Shapes of the output and of log_det."""
        shape = tuple(input_shape)
        for step in self.steps:
            shape, _ = step.compute_output_shape(shape)
        return shape, (shape[0],)

    def call(self, x: Any) -> tuple[Any, Any]:
        """The output and log_det."""
        log_det = no_change(x)
        for step in self.steps:
            x, change = step(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, y: Any) -> Any:
        """The input that gives y."""
        for step in reversed(self.steps):
            y = step.inverse(y)
        return y

    def get_config(self) -> dict:
        """The constructor's arguments."""
        steps = [keras.saving.serialize_keras_object(step) for step in self.steps]
        return {**super().get_config(), "steps": steps}

    @classmethod
    def from_config(cls, config: dict) -> "Chain":
        """A chain of this config, with fresh weights."""
        return cls(**{**config, "steps": _layers(config["steps"])})


@keras.saving.register_keras_serializable("keras_ssl")
class MultiScale(keras.layers.Layer):
    """The multi-scale architecture: after each level half of the channels is done.

        x -> level 1 -> (x_1, z_1);   x_1 -> level 2 -> (x_2, z_2);   ...   -> z_L

    z_1 is the second half of the channels that level 1 gives, x_1 the first. The result is one
    vector (z_1, ..., z_L) of as many values as x has.

    Dinh et al. 2016, https://arxiv.org/abs/1605.08803, section 3.6. Departures from the authors'
    code: none known.

    Args:
        levels: flow layers, one a level; all but the last give an even number of channels.
        dtype: of the arithmetic.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, levels: Sequence[keras.Layer], dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        self.levels = list(levels)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Build the levels and note the shapes of the z_l."""
        shape, self._shapes = tuple(input_shape), []
        for level in self.levels[:-1]:
            *places, channels = self._after(level, shape)
            if channels % 2:
                raise ValueError(
                    "Every level but the last must give an even number of channels, half of which "
                    f"goes on. Received: {channels}. Squeeze within the level."
                )
            shape = (*places, channels // 2)
            self._shapes.append(shape[1:])
        self._shapes.append(self._after(self.levels[-1], shape)[1:])
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """Shapes of z and of log_det."""
        return (input_shape[0], math.prod(input_shape[1:])), (input_shape[0],)

    def call(self, x: Any) -> tuple[Any, Any]:
        """The vector z, `(B, D)`, and log_det."""
        log_det, parts = no_change(x), []
        for level in self.levels[:-1]:
            x, change = level(x)
            log_det = log_det + change
            x, done = ops.split(x, 2, axis=-1)
            parts.append(done)
        x, change = self.levels[-1](x)
        flat = [_flat(part) for part in (*parts, x)]
        return ops.concatenate(flat, axis=-1), log_det + change

    def inverse(self, z: Any) -> Any:
        """The input that gives z."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes]).tolist()
        parts = [
            ops.reshape(z[:, end - math.prod(shape) : end], (-1, *shape))
            for end, shape in zip(ends, self._shapes)
        ]
        x = self.levels[-1].inverse(parts[-1])
        for level, part in zip(reversed(self.levels[:-1]), reversed(parts[:-1])):
            x = level.inverse(ops.concatenate([x, part], axis=-1))
        return x

    def get_config(self) -> dict:
        """The constructor's arguments."""
        levels = [keras.saving.serialize_keras_object(level) for level in self.levels]
        return {**super().get_config(), "levels": levels}

    @classmethod
    def from_config(cls, config: dict) -> "MultiScale":
        """An architecture of this config, with fresh weights."""
        return cls(**{**config, "levels": _layers(config["levels"])})

    @staticmethod
    def _after(level: keras.layers.Layer, shape: tuple) -> tuple:
        """Build a level for `shape`; the shape that it gives."""
        if not level.built:
            level.build(shape)
        return level.compute_output_shape(shape)[0]


def no_change(x: Any) -> Any:
    """The log-determinant of a layer that keeps volumes: zeros, one an image of `x`."""
    return ops.zeros((ops.shape(x)[0],), x.dtype)


def sum_of_image(x: Any) -> Any:
    """Sum over all axes but the first."""
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))


def _map_channels(x: Any, w: Any) -> Any:
    """`x W` at each place."""
    y = distribute.matmul_float32(ops.reshape(x, (-1, x.shape[-1])), w)
    return ops.reshape(y, (-1, *x.shape[1:]))


def _flat(x: Any) -> Any:
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


def _layers(configs: Sequence[dict]) -> list[keras.Layer]:
    return [keras.saving.deserialize_keras_object(config) for config in configs]
