"""How well an autoencoder reconstructs its images."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl.evaluation.features import extract
from keras_ssl.ops import to_unit_range


def reconstruction_ratio(
    reconstruct: Callable[[Any], Any], images: Any, batch_size: int = 256
) -> float:
    """Squared error of reconstructions, relative to that of reconstructions of other images.

        mean_i |x_i - r(x_i)|^2  /  mean_{i != j} |x_i - r(x_j)|^2

    0: perfect reconstruction; 1: a reconstruction tells nothing about its own image (any constant
    one gives exactly 1). It does not depend on the images' contrast, so it can be compared between
    data sets.

    Donahue et al. 2016 (BiGAN), https://arxiv.org/abs/1605.09782; the authors' code prints both
    errors. Departures from it: all pairs of different images in the place of one shuffle, squared
    errors in the place of their roots.

    Args:
        reconstruct: images (B, H, W, C) -> images of the same shape in [0, 1], for instance
            `model.reconstruct`.
        images: array (N, H, W, C), N >= 2, uint8 or floats in [0, 1].
        batch_size: images per call of `reconstruct`.

    Returns:
        >= 0; NaN if all images are equal and perfectly reconstructed, or a value is not finite.

    Raises:
        ValueError: if there are fewer than two images, or reconstructions have another shape.
    """
    if len(images) < 2:
        raise ValueError(
            f"`images` must hold at least two images to compare. Received: {len(images)}."
        )
    number, own, squares, sum_x, sum_r = len(images), 0.0, 0.0, 0.0, 0.0
    for start in range(0, number, batch_size):
        batch = images[start : start + batch_size]
        r = extract(lambda x: _flat(reconstruct, x), batch, batch_size).astype(np.float64)
        x = keras.ops.convert_to_numpy(to_unit_range(batch)).reshape(r.shape).astype(np.float64)
        own += np.square(x - r).sum()
        squares += np.square(x).sum() + np.square(r).sum()
        sum_x, sum_r = sum_x + x.sum(axis=0), sum_r + r.sum(axis=0)
    # Over all pairs: sum_ij |x_i - r_j|^2 = N sum_i (|x_i|^2 + |r_i|^2) - 2 (sum x) . (sum r).
    others = number * squares - 2.0 * np.dot(sum_x, sum_r) - own
    return float(own * (number - 1) / others) if others != 0 else float("nan")


def _flat(reconstruct: Callable[[Any], Any], batch: Any) -> Any:
    images = keras.ops.convert_to_tensor(reconstruct(batch))
    if tuple(images.shape) != tuple(batch.shape):
        raise ValueError(
            "`reconstruct` must return images of the shape it was given. Received: shape "
            f"{tuple(images.shape)} for {tuple(batch.shape)}."
        )
    return keras.ops.reshape(images, (len(batch), -1))
