"""Convolution and batch normalisation as PyTorch computes them."""

from typing import Any

import keras

from keras_ssl.layers.norm import batch_norm


def conv(x: Any, filters: int, size: int, stride: int = 1, *, name: str) -> Any:
    """Convolution without bias, with `size // 2` zeros on every side, as PyTorch pads.

    Keras' own `"same"` pads strided convolutions on the right and below only when sides are even,
    so it reads other pixels, and weights of a PyTorch network would give other features. With
    stride 1 the two agree.
    """
    padding = size // 2
    if stride > 1 and padding:
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=fan_out_normal(),
        name=name,
    )(x)


def fan_out_normal() -> keras.Initializer:
    """Normal numbers of variance 2 / (size^2 filters), He et al. 2015, as in torchvision."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def conv_bn(
    x: Any,
    filters: int,
    size: int,
    stride: int = 1,
    *,
    name: str,
    relu: bool = True,
    zero_init: bool = False,
) -> Any:
    """`conv`, batch normalisation (gamma 0 at first if `zero_init`), and ReLU if `relu`."""
    x = conv(x, filters, size, stride, name=f"{name}_conv")
    gamma = "zeros" if zero_init else "ones"
    x = batch_norm(name=f"{name}_bn", gamma_initializer=gamma)(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x
