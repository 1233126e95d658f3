"""Weight normalisation with a start that the data decide.

    W = g v / |v|,    y = x * W + b,

one gain g and one bias b an output channel, |v| over all other axes of the kernel. Within
`starting()` a layer first sets g and b so that its outputs on the images at hand have mean 0 and
standard deviation `initial_scale`; layers do so in the order in which a network calls them.

Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868, sections 2 and 3. Departures from the
authors' code: the first pass is one in inference mode, without dropout.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_ssl.layers.fixed_kernels import kernel_of
from keras_ssl.layers.starting import is_starting

_EPSILON = 1e-10
_KERNEL_STDDEV = 0.05


def add_weights(layer: keras.Layer, shape: tuple, axis: int = -1) -> None:
    """Give `layer` v of `shape`, whose outputs lie on `axis`, g and b."""
    # Without Keras' casts: kernels are normalised in float32 under every policy.
    makers = {
        "kernel": (shape, keras.initializers.RandomNormal(stddev=_KERNEL_STDDEV)),
        "gain": ((shape[axis],), "ones"),
        "bias": ((shape[axis],), "zeros"),
    }
    for name, (size, initializer) in makers.items():
        weight = layer.add_weight(shape=size, initializer=initializer, autocast=False, name=name)
        setattr(layer, name, weight)


def normalized(kernel: Any, axis: int = -1) -> Any:
    """V / |v|, float32, the norm being that of each slice along `axis`."""
    kernel = ops.cast(kernel, "float32")
    others = [i for i in range(len(kernel.shape)) if i != axis % len(kernel.shape)]
    return kernel * ops.rsqrt(ops.sum(ops.square(kernel), axis=others, keepdims=True) + _EPSILON)


def start(layer: keras.Layer, apply: Callable[[Any], Any], initial_scale: float) -> None:
    """Within `starting()`, set gain and bias of `layer`; else nothing.

    Args:
        layer: with the weights of `add_weights`.
        apply: function of a float32 kernel to what the layer's input gives with it, channels last.
        initial_scale: standard deviation that the outputs shall have.
    """
    if not is_starting():
        return
    outputs = ops.cast(apply(normalized(layer.kernel, layer.output_axis)), "float32")
    mean, variance = ops.moments(outputs, axes=list(range(len(outputs.shape) - 1)))
    gain = initial_scale * ops.rsqrt(variance + _EPSILON)
    layer.gain.assign(gain)
    layer.bias.assign(-mean * gain)


@keras.saving.register_keras_serializable("keras_ssl")
class WeightNormDense(keras.layers.Layer):
    """A linear map of the last axis with weight normalisation, for inputs of any rank.

    Args:
        units: width of the output.
        initial_scale: standard deviation of the outputs after the start.
        **kwargs: as `keras.layers.Layer`.
    """

    output_axis = -1

    def __init__(self, units: int, initial_scale: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.initial_scale = units, initial_scale

    def build(self, input_shape: tuple) -> None:
        """Make v `(inputs, units)`, g and b."""
        add_weights(self, (input_shape[-1], self.units))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """`(..., inputs)` to `(..., units)`."""
        x = ops.cast(inputs, "float32")
        start(self, lambda kernel: ops.matmul(x, kernel), self.initial_scale)
        return ops.matmul(inputs, kernel_of(self)) + ops.cast(self.bias, inputs.dtype)

    def make_kernel(self) -> Any:
        """W, in the layer's compute dtype."""
        return ops.cast(normalized(self.kernel) * self.gain, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """`(..., units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "initial_scale": self.initial_scale,
        }
