"""How many bits a generative model needs for an image."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_ssl.evaluation.features import extract


def bits_per_dim(
    log_prob: Callable[[Any], Any], images: Any, batch_size: int = 256
) -> tuple[float, float]:
    """Mean code length of images under a model, per dimension, and its standard error.

        bits = -log p(x) / (D log 2),    D = height * width * channels,

    for the probability p of whole images of 8-bit values (log in nats); a uniform guess costs 8
    bits. If `log_prob` is a lower bound of log p, the figure is an upper bound. The error is the
    standard deviation over images / sqrt(N): the uncertainty due to the choice of images, not the
    noise within `log_prob`.

    van den Oord et al. 2016, https://arxiv.org/abs/1601.06759 (section 5.1). Departures: the error.

    Args:
        log_prob: images (B, H, W, C) -> log-likelihoods (B,) in nats, for instance
            `model.log_prob`.
        images: (N, H, W, C), uint8 or floats in [0, 1], as `evaluation.extract` takes them.
        batch_size: images per call of `log_prob`.

    Returns:
        mean and standard error; the error is NaN for one image, and both may be infinite or NaN
        where a likelihood is.

    Raises:
        ValueError: if there is no image, or `log_prob` does not return one number an image.
    """

    def bits(batch: Any) -> Any:
        nats = ops.convert_to_tensor(log_prob(batch))
        if tuple(nats.shape) != (len(batch),):
            raise ValueError(
                "`log_prob` must return one number an image. Received: shape "
                f"{tuple(nats.shape)} for {len(batch)} images. Sum over height, width and channels."
            )
        return -nats[:, None] / (math.prod(batch.shape[1:]) * math.log(2.0))

    values = extract(bits, images, batch_size)[:, 0].astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite bits have no spread
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return float(values.mean()), float(error)
