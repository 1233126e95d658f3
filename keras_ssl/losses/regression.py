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


def smooth_l1(p: Any, z: Any, weights: Any, beta: float = 1.0) -> Any:
    """Huber's error of an image's predictions, without gradient to the targets.

        L_i = sum_m w_im mean_d h(p_imd - z_imd) / sum_m w_im,
        h(e) = e^2 / (2 beta) where |e| < beta, else |e| - beta / 2

    With beta 1, I-JEPA's loss in the authors' code (the paper has squared distances): Assran et al.
    2023, https://arxiv.org/abs/2301.08243, section 3.

    Args:
        p: predictions, `(B, M, D)`, any floating dtype.
        z: targets, `(B, M, D)`.
        weights: w, `(B, M)`, >= 0, some of each image > 0.
        beta: where it goes from a parabola to a line, > 0.

    Returns:
        float32 `(B,)`, one number an image; their mean over the global batch is the loss.

    Raises:
        ValueError: if `beta` is not positive or the shapes do not go together.
    """
    if not beta > 0:
        raise ValueError(f"`beta` must be > 0. Received: beta={beta}. I-JEPA has 1.")
    shapes = tuple(p.shape), tuple(z.shape), tuple(weights.shape)
    if len(shapes[0]) != 3 or len(shapes[1]) != 3 or len(shapes[2]) != 2:
        raise ValueError(
            "`p` and `z` must have shape (B, M, D), `weights` (B, M). Received: "
            f"shapes {shapes}. One row a patch, one image along the first axis."
        )
    errors = ops.abs(ops.cast(p, "float32") - ops.stop_gradient(ops.cast(z, "float32")))
    errors = ops.where(errors < beta, ops.square(errors) / (2 * beta), errors - beta / 2)
    weights = ops.cast(weights, "float32")
    return ops.sum(weights * ops.mean(errors, axis=-1), axis=-1) / ops.sum(weights, axis=-1)
