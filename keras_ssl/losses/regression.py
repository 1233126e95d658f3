"""Regression losses: predict the other view's embedding itself."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices
from keras_ssl.ops.similarity import l2_normalize


def negative_cosine(p: Any, z: Any) -> Any:
    """Mean negative cosine of predictions and targets, without gradient to the targets.

        D(p, z) = -1/N sum_i <p_i, z_i> / (|p_i| |z_i|)

    SimSiam's loss is [D(p_1, z_2) + D(p_2, z_1)] / 2 (Chen and He 2021,
    https://arxiv.org/abs/2011.10566, equations 1 to 4); BYOL's, a squared distance of unit
    vectors, is 2 + 2 D for each of its two terms (Grill et al. 2020,
    https://arxiv.org/abs/2006.07733, equation 2).
    Departures from the authors' code: none known.

    Args:
        p: predictions, `(N, D)`, any floating dtype; normalised here, like the targets.
        z: targets, `(N, D)`, in the same order.

    Returns:
        float32 scalar in [-1, 1]; -1 when every prediction points at its target.

    Raises:
        ValueError: if the inputs are not two matrices of one shape.
    """
    check_matrices(p=p, z=z)
    z = ops.stop_gradient(l2_normalize(z))
    return -ops.mean(ops.sum(l2_normalize(p) * z, axis=-1))
