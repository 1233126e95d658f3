"""Decoders: networks from a latent vector to maps of an image's height and width."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.layers.norm import batch_norm

_SMALLEST_SIDE = 4  # of the first map, into which the latent vector is reshaped
_LAST_WIDTH, _LARGEST_WIDTH = 32, 512


def conv_decoder(
    latent_dim: int,
    image_shape: Sequence[int],
    channels: int | None = None,
    widths: Sequence[int] | None = None,
    activation: Any = None,
    name: str = "decoder",
) -> keras.Model:
    """A convolutional decoder: every stage doubles height and width, by repeating pixels.

        z -> Dense -> (h0, w0, widths[0]) -> BatchNorm, ReLU
          -> [ upsample x2 -> conv 3x3 -> BatchNorm -> ReLU ]  for each further width
          -> conv 3x3 -> crop to (H, W, channels)

    Upsampling before a convolution of stride 1 avoids the checkerboard of strided transposed
    convolutions (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard). With n stages
    the first map has ceil(size / 2^n) places a side, so that any size works; the excess is cropped
    on the right and below.

    Args:
        latent_dim: width of z.
        image_shape: (H, W, C) of the images.
        channels: output maps, by default C; more for a likelihood with several parameters a value.
        widths: channels of the first map, then of each stage; their number fixes that of the
            stages, n = len(widths) - 1. By default the shorter side starts with 4 to 7 places, and
            widths halve at each stage to end at 32 (512 at most): (256, 128, 64, 32) at 32 px.
        activation: of the output, anything Keras takes; None for linear. Computed in float32.
        name: name of the model.

    Returns:
        A built functional model, `(B, latent_dim)` -> float32 `(B, H, W, channels)`.

    Raises:
        ValueError: if a size is not positive, or there are no widths.
    """
    height, width, colours = _check(latent_dim, image_shape, widths)
    widths = _default_widths(min(height, width)) if widths is None else tuple(widths)
    factor = 2 ** (len(widths) - 1)
    start = math.ceil(height / factor), math.ceil(width / factor)
    inputs = keras.Input((latent_dim,), name=f"{name}_input")
    # No biases before batch normalisation, which would subtract them again.
    x = keras.layers.Dense(start[0] * start[1] * widths[0], use_bias=False, name=f"{name}_dense")(
        inputs
    )
    x = keras.layers.Reshape((*start, widths[0]), name=f"{name}_reshape")(x)
    x = _norm_relu(x, f"{name}_start")
    for i, filters in enumerate(widths[1:], start=1):
        x = keras.layers.UpSampling2D(2, name=f"{name}_stage{i}_upsample")(x)
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_stage{i}_conv",
        )(x)
        x = _norm_relu(x, f"{name}_stage{i}")
    x = keras.layers.Conv2D(channels or colours, 3, padding="same", name=f"{name}_output")(x)
    over = start[0] * factor - height, start[1] * factor - width
    if any(over):
        x = keras.layers.Cropping2D(((0, over[0]), (0, over[1])), name=f"{name}_crop")(x)
    x = keras.layers.Activation(activation or "linear", dtype="float32", name=f"{name}_maps")(x)
    return keras.Model(inputs, x, name=name)


def _norm_relu(x: Any, name: str) -> Any:
    return keras.layers.ReLU(name=f"{name}_relu")(batch_norm(name=f"{name}_bn")(x))


def num_stages(side: int) -> int:
    """How often `side` pixels can be halved so that at least 4 places are left."""
    return max(0, int(math.log2(max(1, side) / _SMALLEST_SIDE)))


def _default_widths(side: int) -> tuple[int, ...]:
    return tuple(min(_LARGEST_WIDTH, _LAST_WIDTH * 2**i) for i in range(num_stages(side), -1, -1))


def _check(
    latent_dim: int, image_shape: Sequence[int], widths: Sequence[int] | None
) -> tuple[int, int, int]:
    shape = tuple(image_shape)
    if len(shape) != 3 or any(not isinstance(side, int) or side < 1 for side in shape):
        raise ValueError(
            "`image_shape` must be (height, width, channels), all positive integers. "
            f"Received: image_shape={image_shape}. Give the backbone an `input_shape`."
        )
    if latent_dim < 1 or (widths is not None and (not widths or min(widths) < 1)):
        raise ValueError(
            "`latent_dim` and `widths` must be positive, with one width at least. "
            f"Received: latent_dim={latent_dim}, widths={widths}."
        )
    return shape
