"""Regression losses: predict the other view's embedding itself."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_views
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


def invariance(z: Any, num_global: int | None = None) -> Any:
    """Mean squared distance of an image's views from the centre of its global views.

        c_i = mean of z_vi over the global views v,    L = 1/(V N D) sum_vij (z_vij - c_ij)^2

    For V views, all of them global, it is the variance over the views: for two, a quarter of their
    mean squared difference. Gradients flow into all views, through the centre too. Balestriero and
    LeCun 2025 (LeJEPA), https://arxiv.org/abs/2511.08544, section 5; Wu et al. 2026 (VISReg),
    https://arxiv.org/abs/2606.02572, equation 8.
    Departures from the authors' code: none known.

    Args:
        z: embeddings, `(V, N, D)`, global views first, any floating dtype; not normalised.
        num_global: global views, from 1 to V; None for all.

    Returns:
        float32 scalar >= 0; 0 where the views of every image agree, at collapse too.

    Raises:
        ValueError: if `z` has other axes, or `num_global` is out of range.
    """
    check_views(z)
    num_global = z.shape[0] if num_global is None else num_global
    if not 1 <= num_global <= z.shape[0]:
        raise ValueError(
            f"`num_global` must be from 1 to the number of views. Received: num_global={num_global}"
            f" for {z.shape[0]} views. Leave it out where all views are global."
        )
    z = ops.cast(z, "float32")
    return ops.mean(ops.square(z - ops.mean(z[:num_global], axis=0)))
