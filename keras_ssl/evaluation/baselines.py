"""What images cost without a model that learns: yardsticks for bits per dimension."""

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from keras_ssl.evaluation.likelihood import mean_and_error

CODECS = {"PNG": {"optimize": True}, "WEBP": {"lossless": True}}


def independent_pixels(train: Any, test: Any) -> tuple[float, float]:
    """Bits per dimension of `test` when each place and channel has a distribution of its own.

    P(k) of an 8-bit value at a place is (its count in `train` + 1) / (N + 256): an exact likelihood
    that knows no dependence between pixels. A model that is not below it has learned none.

    Args:
        train: (N, H, W, C), uint8 or floats in [0, 1] (rounded to 8 bits).
        test: (n, H, W, C), the same.

    Returns:
        mean over images and its standard error.

    Raises:
        ValueError: if the images differ in shape.
    """
    train, test = _as_uint8(train), _as_uint8(test)
    if train.shape[1:] != test.shape[1:] or train.ndim != 4:
        raise ValueError(
            "`train` and `test` must be images (N, H, W, C) of one shape. Received: shapes "
            f"{train.shape} and {test.shape}."
        )
    flat, other = train.reshape(len(train), -1), test.reshape(len(test), -1)
    return independent_values(flat, other, 256)


def independent_values(train: Any, test: Any, count: int) -> tuple[float, float]:
    """Bits a place of rows of integers, when each place has a distribution of its own.

    That of `independent_pixels`, for values below `count`: of tokens, bits per token.

    Args:
        train: (N, D), integers from 0 to `count` - 1.
        test: (n, D), the same.
        count: number of values.

    Returns:
        mean over rows and its standard error.
    """
    train, test = np.asarray(train), np.asarray(test)
    dims = train.shape[1]
    cells = train.astype(np.int64) + count * np.arange(dims)
    counts = np.bincount(cells.ravel(), minlength=count * dims).reshape(dims, count)
    bits = -np.log2((counts + 1) / (len(train) + count))
    return mean_and_error(bits[np.arange(dims), test].mean(axis=1))


def compressed(images: Any, codec: str = "PNG") -> tuple[float, float]:
    """Bits per dimension of images as losslessly compressed files, one an image, headers included.

    Args:
        images: (N, H, W, C) of one, three or four channels, uint8 or floats in [0, 1] (rounded).
        codec: "PNG", or "WEBP" (three channels).

    Returns:
        mean over images and its standard error.

    Raises:
        ValueError: if the codec is another.
    """
    if codec not in CODECS:
        raise ValueError(f"`codec` must be one of {sorted(CODECS)}. Received: codec={codec!r}.")
    images = _as_uint8(images)
    lengths = [8.0 * _file_size(image, codec) for image in images]
    return mean_and_error(np.array(lengths) / math.prod(images.shape[1:]))


def _as_uint8(images: Any) -> np.ndarray:
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else np.rint(255.0 * images).astype(np.uint8)


def _file_size(image: np.ndarray, codec: str) -> int:
    buffer = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(buffer, codec, **CODECS[codec])
    return buffer.tell()
