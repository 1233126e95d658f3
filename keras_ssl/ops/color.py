"""Colour spaces."""

from typing import Any

import numpy as np
from keras import ops

# Linear RGB to XYZ (IEC 61966-2-1, white point D65); each row is divided by its sum, so that white
# is (1, 1, 1).
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ],
    "float32",
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)
# (f_x, f_y, f_z) to (L + 16, a, b).
_TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], "float32")

# RGB to Y, Db, Dr (SECAM).
_TO_YDBDR = np.array(
    [[0.299, 0.587, 0.114], [-0.45, -0.883, 1.333], [-1.333, 1.116, 0.217]], "float32"
)


def rgb_to_lab(images: Any) -> Any:
    """CIE 1976 L*a*b* of sRGB images: lightness, green to red, blue to yellow.

    With X, Y, Z relative to the white point D65, from linearised RGB, and f(t) = t^(1/3), or
    7.787 t + 16/116 below t = 0.008856,

        L = 116 f(Y) - 16,    a = 500 (f(X) - f(Y)),    b = 200 (f(Y) - f(Z)).

    White is (100, 0, 0), black (0, 0, 0), and greys have a = b = 0. CIE 15 and IEC 61966-2-1.

    Args:
        images: sRGB, float `(..., 3)` in [0, 1].

    Returns:
        float32 `(..., 3)`: L in [0, 100], a and b within about +-110.

    Raises:
        ValueError: if there are not three channels.
    """
    rgb = _rgb(images)
    # The maxima keep the unused branch of `where` finite: its gradient would otherwise be NaN.
    curve = ops.power((ops.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4)
    linear = ops.where(rgb > 0.04045, curve, rgb / 12.92)
    xyz = ops.matmul(linear, _TO_XYZ.T)
    root = ops.power(ops.maximum(xyz, 0.008856), 1 / 3)
    f = ops.where(xyz > 0.008856, root, 7.787 * xyz + 16 / 116)
    return ops.matmul(f, _TO_LAB.T) - np.array([16, 0, 0], "float32")


def rgb_to_ydbdr(images: Any) -> Any:
    """Luma and two colour differences of RGB images, those of SECAM television.

        Y = 0.299 R + 0.587 G + 0.114 B,    Db = 1.505 (B - Y),    Dr = -1.902 (R - Y)

    Args:
        images: float `(..., 3)` in [0, 1].

    Returns:
        float32 `(..., 3)`: Y in [0, 1], Db and Dr in [-1.333, 1.333]; 0 for greys.

    Raises:
        ValueError: if there are not three channels.
    """
    return ops.matmul(_rgb(images), _TO_YDBDR.T)


def _rgb(images: Any) -> Any:
    if images.shape[-1] != 3:
        raise ValueError(
            f"`images` must have three channels, RGB. Received: shape {tuple(images.shape)}."
        )
    return ops.cast(images, "float32")
