"""Networks of couplings: from one half of the values to shifts, or shifts and scales, of the other.

All give zeros at first, so that a flow starts as its normalisations alone. Those with hidden layers
name the last one "hidden": features of what the network has seen (`hidden_layers`). They are
functional models in float32 under every policy, as the layers of flows; `dtype` is for tests.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.layers.flows import ActNorm

_HIDDEN = "hidden"
_GLOW_STDDEV = 0.05  # of hidden kernels, as the authors'


def dense_network(
    inputs: int, width: int, depth: int, outputs: int, dtype: Any = "float32"
) -> keras.Model:
    """A perceptron of `depth` hidden layers with ReLU, and a linear output.

    Dinh et al. 2014 (NICE), https://arxiv.org/abs/1410.8516, section 5.1.

    Args:
        inputs: values of the half that is seen.
        width: units of a hidden layer.
        depth: hidden layers.
        outputs: values of the other half.
        dtype: of weights and arithmetic.

    Returns:
        A built model, `(B, inputs)` -> `(B, outputs)`.

    Raises:
        ValueError: if a size is not positive.
    """
    _check(inputs=inputs, width=width, depth=depth, outputs=outputs)
    seen = x = keras.Input((inputs,), dtype=dtype)
    for layer in range(depth):
        x = keras.layers.Dense(
            width,
            activation="relu",
            kernel_initializer="he_normal",
            dtype=dtype,
            name=_HIDDEN if layer == depth - 1 else f"dense{layer + 1}",
        )(x)
    x = keras.layers.Dense(outputs, kernel_initializer="zeros", dtype=dtype, name="output")(x)
    return keras.Model(seen, x)


def glow_network(
    shape: Sequence[int], width: int, outputs: int, dtype: Any = "float32"
) -> keras.Model:
    """Three convolutions, 3x3, 1x1 and 3x3, with activation normalisation and ReLU between them.

    Kingma and Dhariwal 2018 (Glow), https://arxiv.org/abs/1807.03039, section 4 and appendix B.
    Departures from the authors' code: borders are padded with zeros, without a channel that marks
    them.

    Args:
        shape: (height, width, channels) of the half that is seen.
        width: channels of the hidden layers; the paper's 512.
        outputs: maps.
        dtype: of weights and arithmetic.

    Returns:
        A built model, `(B, *shape)` -> `(B, height, width, outputs)`.

    Raises:
        ValueError: if a size is not positive.
    """
    _check(width=width, outputs=outputs)
    seen = x = keras.Input(tuple(shape), dtype=dtype)
    kernel = keras.initializers.RandomNormal(stddev=_GLOW_STDDEV)
    for size, name in ((3, "relu"), (1, _HIDDEN)):
        x = _norm_relu(_conv(x, width, size, kernel, dtype), name, dtype)
    return keras.Model(seen, _zero_conv(x, outputs, 3, dtype))


def residual_network(
    shape: Sequence[int], width: int, blocks: int, outputs: int, dtype: Any = "float32"
) -> keras.Model:
    """Residual blocks before their activations, each with a way of its own to the output.

        h_0 = conv3x3(relu([x, -x])),   h_i = h_{i-1} + conv3x3(f(conv3x3(f(h_{i-1})))),
        output = conv1x1( f( sum_i conv1x1(h_i) ) ),    f = ReLU after activation normalisation

    Dinh et al. 2016 (RealNVP), https://arxiv.org/abs/1605.08803, section 4.1. Departures from the
    authors' code: activation normalisation in the place of batch and weight normalisation.

    Args:
        shape: (height, width, channels) of what is seen.
        width: channels of the hidden layers.
        blocks: residual blocks; the paper's 8 for CIFAR-10, 2 for images of 64 px.
        outputs: maps.
        dtype: of weights and arithmetic.

    Returns:
        A built model, `(B, *shape)` -> `(B, height, width, outputs)`.

    Raises:
        ValueError: if a size is not positive.
    """
    _check(width=width, blocks=blocks, outputs=outputs)
    seen = keras.Input(tuple(shape), dtype=dtype)
    negative = keras.layers.Rescaling(-1.0, dtype=dtype)(seen)
    both = keras.layers.Concatenate(dtype=dtype)([seen, negative])
    h = _conv(keras.layers.ReLU(dtype=dtype)(both), width, 3, "he_normal", dtype)
    ways = [_conv(h, width, 1, "he_normal", dtype)]
    for block in range(blocks):
        x = h
        for half in "ab":
            x = _norm_relu(x, f"relu{block + 1}{half}", dtype)
            x = _conv(x, width, 3, "he_normal", dtype)
        h = keras.layers.Add(dtype=dtype)([h, x])
        ways.append(_conv(h, width, 1, "he_normal", dtype))
    x = _norm_relu(keras.layers.Add(dtype=dtype)(ways), _HIDDEN, dtype)
    return keras.Model(seen, _zero_conv(x, outputs, 1, dtype))


def linear_network(shape: Sequence[int], outputs: int, dtype: Any = "float32") -> keras.Model:
    """One 3x3 convolution: mean and scale of the half that Glow's split removes.

    Args:
        shape: (height, width, channels) of the half that stays.
        outputs: maps.
        dtype: of weights and arithmetic.

    Returns:
        A built model, `(B, *shape)` -> `(B, height, width, outputs)`.
    """
    seen = keras.Input(tuple(shape), dtype=dtype)
    return keras.Model(seen, _zero_conv(seen, outputs, 3, dtype))


def hidden_layers(network: keras.Model) -> keras.Model:
    """A network up to its layer "hidden"; weights are shared."""
    return keras.Model(network.input, network.get_layer(_HIDDEN).output)


def _conv(x: Any, width: int, size: int, kernel: Any, dtype: Any) -> Any:
    """No bias: activation normalisation follows, or a sum that has it."""
    return keras.layers.Conv2D(
        width, size, padding="same", use_bias=False, kernel_initializer=kernel, dtype=dtype
    )(x)


def _norm_relu(x: Any, name: str, dtype: Any) -> Any:
    x, _ = ActNorm(dtype=dtype)(x)
    return keras.layers.ReLU(dtype=dtype, name=name)(x)


def _zero_conv(x: Any, outputs: int, size: int, dtype: Any) -> Any:
    """A convolution that is zero at first, with a learned offset and scale of each map."""
    x, _ = ActNorm(from_data=False, dtype=dtype)(_conv(x, outputs, size, "zeros", dtype))
    return x


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={size}.")
