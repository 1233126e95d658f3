"""Number formats of images at the public surface."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

SMALL = 64  # pixels below which CIFAR's settings and ResNets' CIFAR stem are the defaults


def is_small(size: Sequence[int | None]) -> bool:
    """Whether images are so small that a paper's settings for CIFAR apply, not ImageNet's.

    Args:
        size: (height, width), or a shape that begins so; None where a side is open.

    Returns:
        True if both sides are known and a side is below 64 pixels.
    """
    return None not in size[:2] and min(size[:2]) < SMALL


def grey_values(images: Any) -> Any:
    """The 8-bit values 0, 1, ..., 255 of images in [0, 1], as float32.

    Rounded, never cut off: 255 * (k / 255) is a little less than k for many k.
    """
    return ops.round(255.0 * ops.cast(images, "float32"))


def dequantized(images: Any, noise: Any) -> Any:
    """Images with uniform noise on their 8-bit values, y = (k + u) / 256, in [0, 1].

    For a density p of y and D dimensions, -log P(k) <= E_u[-log p(y)] + D log 256 (Theis et al.
    2016, https://arxiv.org/abs/1511.01844, section 3.1): the one way from a density to a code
    length of 8-bit images.

    Args:
        images: `(B, ...)`, float in [0, 1].
        noise: u, uniform in [0, 1), of the same shape.
    """
    return (grey_values(images) + noise) / 256.0


def quantized(images: Any) -> Any:
    """The 8-bit images, in [0, 1], whose bin y in [0, 1) lies in: the inverse of `dequantized`.

    k = floor(256 y), cut off to 0..255, as k / 255. Noise in [0, 1) is undone, and small errors of
    y with noise around 0.5.

    Args:
        images: y, of any shape.
    """
    return ops.clip(ops.floor(256.0 * ops.cast(images, "float32")), 0.0, 255.0) / 255.0


def to_unit_range(images: Any) -> Any:
    """Bring images to floating point in [0, 1].

    The dtype alone decides: uint8 is divided by 255, floating point is assumed to be in [0, 1] and
    passes unchanged. Values are not checked, so the function costs nothing and can be traced.

    Args:
        images: tensor or array of any shape; uint8 in 0..255 or floating point in [0, 1].

    Returns:
        float32 of the same shape for uint8; the input itself, as a tensor, for floating point.

    Raises:
        ValueError: for any other dtype, whose range is not known.
    """
    dtype = keras.backend.standardize_dtype(images.dtype)
    if dtype == "uint8":
        return ops.cast(images, "float32") / 255.0
    if "float" in dtype:
        return ops.convert_to_tensor(images)
    raise ValueError(
        f"`images` must be uint8 (0..255) or floating point in [0, 1]. Received: dtype={dtype}. "
        "Divide by the largest value of the format first, e.g. `images / 65535.0` for 16 bits."
    )
