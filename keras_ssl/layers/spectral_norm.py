"""Dense and convolution with spectral normalisation, for discriminators.

The kernel W is divided by an estimate of its largest singular value in every call,

    W_bar = W / sigma(W),    sigma(W) = u^T W^T v,    v <- W u / |W u|,    u <- W^T v / |W^T v|,

W as a matrix with one column an output channel. `u` is stored and updated by one power iteration in
each training call; u and v are constants in the gradient, which is then orthogonal to W: the length
of the kernel does not matter. The optimizer updates W itself.

Miyato et al. 2018, https://arxiv.org/abs/1802.05957, section 2.1 and algorithm 1. Departures from
the authors' code: 15 power iterations when the layer is made, so that the first step is normalised
already. `keras.layers.SpectralNormalization` is something else: it overwrites the kernel by its
normalised form, and its gradient leaves sigma out.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_WARM_UP = 15
_EPSILON = 1e-12


@keras.saving.register_keras_serializable("keras_ssl")
class SpectralDense(keras.layers.Layer):
    """`keras.layers.Dense` with a kernel of spectral norm 1.

    Args:
        units: width of the output.
        use_bias: whether a bias is added; it is not normalised.
        kernel_initializer: of W.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.use_bias = units, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make W `(inputs, units)`, the bias and u."""
        _add_weights(self, (input_shape[-1], self.units))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """`inputs W / sigma(W) + bias`; updates u if `training`."""
        return _add_bias(self, ops.matmul(inputs, _normalized_kernel(self, training)))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("keras_ssl")
class SpectralConv2D(keras.layers.Layer):
    """`keras.layers.Conv2D` whose kernel, as a matrix with a column a filter, has spectral norm 1.

    That matrix is not the convolution as a linear map of images, whose norm can be larger (by up to
    the square root of the places in the window); it is what the paper normalises.

    Args:
        filters: channels of the output.
        kernel_size: side of the square window, in pixels.
        strides: steps of the window, in pixels.
        padding: `"same"` or `"valid"`.
        use_bias: whether a bias is added; it is not normalised.
        kernel_initializer: of W.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "same",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.padding, self.use_bias = padding, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make W `(size, size, channels, filters)`, the bias and u."""
        size = self.kernel_size
        _add_weights(self, (size, size, input_shape[-1], self.filters))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The convolution with W / sigma(W), and the bias; updates u if `training`."""
        kernel = _normalized_kernel(self, training)
        outputs = ops.conv(inputs, kernel, self.strides, self.padding, data_format="channels_last")
        return _add_bias(self, outputs)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "strides", "padding", "use_bias")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _add_weights(layer: keras.layers.Layer, shape: Sequence[int]) -> None:
    """Raw kernel, bias and u; float32 arithmetic on the kernel, whatever the layer computes in."""
    layer.kernel = layer.add_weight(
        shape=shape, initializer=layer.kernel_initializer, autocast=False, name="kernel"
    )
    layer.bias = None
    if layer.use_bias:
        layer.bias = layer.add_weight(shape=shape[-1:], initializer="zeros", name="bias")

    def dominant(shape: Sequence[int], dtype: Any = None) -> Any:
        u = _unit(keras.random.normal(shape, dtype="float32"))
        for _ in range(_WARM_UP):
            u, _ = _power_iteration(_matrix(layer), u)
        return ops.cast(u, dtype)

    layer.u = layer.add_weight(
        shape=shape[-1:], initializer=dominant, trainable=False, autocast=False, name="u"
    )


def _normalized_kernel(layer: keras.layers.Layer, training: bool) -> Any:
    """W / sigma(W) in the layer's compute dtype."""
    matrix = _matrix(layer)
    u, v = _power_iteration(ops.stop_gradient(matrix), ops.cast(layer.u, "float32"))
    u, v = ops.stop_gradient(u), ops.stop_gradient(v)
    if training:
        layer.u.assign(ops.cast(u, layer.u.dtype))
    # sigma depends on W here, with gradient; that is what makes the gradient orthogonal to W.
    sigma = ops.maximum(ops.sum(v * ops.matmul(matrix, u)), _EPSILON)
    return ops.cast(ops.cast(layer.kernel, "float32") / sigma, layer.compute_dtype)


def _matrix(layer: keras.layers.Layer) -> Any:
    return ops.reshape(ops.cast(layer.kernel, "float32"), (-1, layer.kernel.shape[-1]))


def _power_iteration(matrix: Any, u: Any) -> tuple[Any, Any]:
    v = _unit(ops.matmul(matrix, u))
    return _unit(ops.matmul(ops.transpose(matrix), v)), v


def _unit(x: Any) -> Any:
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x)), _EPSILON))


def _add_bias(layer: keras.layers.Layer, outputs: Any) -> Any:
    return outputs if layer.bias is None else outputs + layer.bias
