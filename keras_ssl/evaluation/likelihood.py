"""How many bits a generative model needs for an image."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_ssl.evaluation.features import extract

_AXES = {"dimension": 4, "pixel": 3}  # of the batch, that the bits are shared among


def code_lengths(
    log_prob: Callable[[Any], Any], images: Any, batch_size: int = 256, per: str = "dimension"
) -> np.ndarray:
    """Bits that a model needs for each image, per dimension or per pixel.

        bits = -log p(x) / (D log 2),    D = height * width * channels,    or height * width,

    for the probability p of whole images of 8-bit values (log in nats); a uniform guess costs 8
    bits. If `log_prob` is a lower bound of log p, the figures are upper bounds.

    Args:
        log_prob: images (B, H, W, C) -> log-likelihoods (B,) in nats, for instance
            `model.log_prob`.
        images: (N, H, W, C), uint8 or floats in [0, 1], as `evaluation.extract` takes them.
        batch_size: images per call of `log_prob`.
        per: "dimension", or "pixel" for models whose dimensions are pixels, such as tokens of a
            palette.

    Returns:
        float64 (N,); infinite or NaN where a likelihood is.

    Raises:
        ValueError: if there is no image, `log_prob` does not return one number an image, or `per`
            is another word.
    """
    if per not in _AXES:
        raise ValueError(f"`per` must be one of {list(_AXES)}. Received: per={per!r}.")

    def bits(batch: Any) -> Any:
        nats = ops.convert_to_tensor(log_prob(batch))
        if tuple(nats.shape) != (len(batch),):
            raise ValueError(
                "`log_prob` must return one number an image. Received: shape "
                f"{tuple(nats.shape)} for {len(batch)} images. Sum over height, width and channels."
            )
        return -nats[:, None] / (math.prod(batch.shape[1 : _AXES[per]]) * math.log(2.0))

    return extract(bits, images, batch_size)[:, 0].astype(np.float64)


def bits_per_dim(
    log_prob: Callable[[Any], Any], images: Any, batch_size: int = 256, per: str = "dimension"
) -> tuple[float, float]:
    """Mean of `code_lengths`, and its standard error.

    The error is the standard deviation over images / sqrt(N): the uncertainty due to the choice of
    images, not the noise within `log_prob`. van den Oord et al. 2016,
    https://arxiv.org/abs/1601.06759 (section 5.1). Departures: the error.

    Returns:
        mean and standard error; the error is NaN for one image, and both may be infinite or NaN
        where a likelihood is.

    Raises:
        ValueError: as `code_lengths`, whose arguments it has.
    """
    return mean_and_error(code_lengths(log_prob, images, batch_size, per))


def mean_and_error(lengths: np.ndarray) -> tuple[float, float]:
    """Mean of some code lengths, and its standard error."""
    with np.errstate(invalid="ignore"):  # infinite bits have no spread
        count = len(lengths)
        error = lengths.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
        return float(lengths.mean()), float(error)
