"""How far a batch of embeddings is from the standard normal distribution, by random projections.

A distribution is the isotropic normal one if all its projections onto lines are normal (Cramer and
Wold), so a few hundred lines, drawn anew at every step, judge it: `ops.draws.slices` makes them.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_ssl.losses.checks import check_slices


def sigreg(
    z: Any, slices: Any, num_points: int = 33, t_max: float = 3.0, scale_by_batch: bool = True
) -> Any:
    """Squared distance of characteristic functions, the batch's and the normal one, by slices.

    With x = z A, A the slices, for every slice (Epps and Pulley's test of normality)

        T = N integral over [-t_max, t_max] of exp(-t^2/2) e(t) dt,
        e(t) = (mean_n cos(t x_n) - exp(-t^2/2))^2 + (mean_n sin(t x_n))^2,

    by the trapezoid rule; the loss is the mean of T over slices, and over the views where `z` has
    several, each judged by itself. Balestriero and LeCun 2025 (LeJEPA),
    https://arxiv.org/abs/2511.08544, section 4.

    Size: about ten tensors `(V, N, S)` at a time, whatever the number of points. The gradient is
    written out point by point, as automatic differentiation would keep cosines and sines of all of
    them: for 8 views of 1024 images and 1024 slices 0.3 GB in the place of 1.2 GB.

    Departures from the authors' code: none known.

    Args:
        z: embeddings, `(N, D)` or `(V, N, D)`, any floating dtype; the whole global batch, not
            normalised.
        slices: A, `(D, S)`, columns of unit length.
        num_points: of the trapezoid rule over [-t_max, t_max], >= 2. Negative ones equal their
            mirror images and that at 0 adds nothing, so half of them are computed: the authors' 17
            points from 0 to 3 are 33 here.
        t_max: largest frequency, > 0.
        scale_by_batch: whether T has its factor N, the batch; the weight of the loss then depends
            on the batch.

    Returns:
        float32 scalar >= 0. With the factor, for samples of the normal distribution
        sum w(t) (1 - exp(-t^2)) on average, 1.05 whatever N and D (w: weights of the integral);
        for a point mass at 0, N sum w(t) (1 - exp(-t^2/2))^2, 0.40 N.

    Raises:
        ValueError: if a number is out of range, or the shapes do not fit.
    """
    check_slices(z, slices)
    if num_points < 2 or not t_max > 0:
        raise ValueError(
            "`num_points` must be >= 2 and `t_max` > 0. Received: "
            f"num_points={num_points}, t_max={t_max}. The authors' are 33 and 3."
        )
    x = ops.matmul(ops.cast(z, "float32"), slices)  # (..., N, S)
    fixed = ops.stop_gradient(x)
    statistic, slope = ops.zeros(()), 0.0
    for t, weight in zip(*_half_line(num_points, t_max)):
        # Always t, but known after the point before: else all points are computed at once.
        frequency = ops.where(statistic >= 0, t, 0.0)
        cosines, sines = ops.cos(frequency * fixed), ops.sin(frequency * fixed)
        real = ops.mean(cosines, axis=-2, keepdims=True) - math.exp(-(t**2) / 2)
        imaginary = ops.mean(sines, axis=-2, keepdims=True)
        statistic += weight * ops.mean(ops.square(real) + ops.square(imaginary))
        # d e(t) / d x_n is -2 t / N times the difference here. Subtracted, as TensorFlow joins a
        # chain of additions to one sum of all terms, for which all are kept.
        slope -= weight * t * (real * sines - imaginary * cosines)
    # The last term is 0 and has the gradient of the statistic.
    statistic = statistic + 2.0 * ops.mean(slope * (x - fixed))
    return statistic * ops.cast(ops.shape(x)[-2], "float32") if scale_by_batch else statistic


def sliced_wasserstein(z: Any, slices: Any, epsilon: float = 1e-4) -> Any:
    """Squared Wasserstein distance of the standardised batch from the normal distribution.

    With mean and biased standard deviation of every dimension over the batch, and A the slices,

        y = (z - mean) / (std + epsilon),    x = y A,
        L = mean over slices and i of (x_(i) - Phi^-1(i / (N + 1)))^2,

    x_(1) <= ... <= x_(N) the projections in order; over views too, where `z` has several. The
    standard deviation carries no gradient, so that the loss changes the shape of the distribution
    and leaves its scale to `center_and_scale`. Wu et al. 2026 (VISReg),
    https://arxiv.org/abs/2606.02572, equations 2 and 5.

    Size: a few tensors `(V, N, S)`.

    Departures from the authors' code: epsilon is the paper's, theirs is 1e-6.

    Args:
        z: embeddings, `(N, D)` or `(V, N, D)`, any floating dtype; the whole global batch.
        slices: A, `(D, S)`, columns of unit length.
        epsilon: added to the standard deviation, > 0.

    Returns:
        float32 scalar >= 0; near 0 for samples of the normal distribution whatever their scale, in
        every dimension by itself, and mean; below 1 at collapse, where y is 0.

    Raises:
        ValueError: if `epsilon` is not positive, or the shapes do not fit.
    """
    check_slices(z, slices)
    if not epsilon > 0:
        raise ValueError(
            f"`epsilon` must be > 0. Received: epsilon={epsilon}. The paper's is 1e-4."
        )
    mean, std = _moments(z)
    y = (ops.cast(z, "float32") - mean) / (ops.stop_gradient(std) + epsilon)
    x = ops.swapaxes(ops.matmul(y, slices), -1, -2)  # (..., S, N)
    return ops.mean(ops.square(ops.sort(x, axis=-1) - _quantiles(ops.shape(x)[-1])))


def center_and_scale(z: Any) -> tuple[Any, Any]:
    """Squared distances of the batch's means from 0, and of its standard deviations from 1.

        center = 1/D sum_j mean_j^2,    scale = 1/D sum_j (std_j - 1)^2

    with mean and biased standard deviation of every dimension over the batch; averaged over views
    where `z` has several. Wu et al. 2026 (VISReg), https://arxiv.org/abs/2606.02572, equations 1
    and 6. Departures from the authors' code: none known.

    Args:
        z: embeddings, `(N, D)` or `(V, N, D)`, any floating dtype; the whole global batch.

    Returns:
        Two float32 scalars >= 0; (mean^2, 1) at collapse. The gradient of the second does not
        vanish near it.
    """
    mean, std = _moments(z)
    return ops.mean(ops.square(mean)), ops.mean(ops.square(std - 1.0))


def _moments(z: Any) -> tuple[Any, Any]:
    """Mean and biased standard deviation over the batch, float32 `(..., 1, D)`."""
    mean, variance = ops.moments(ops.cast(z, "float32"), axes=-2, keepdims=True)
    # The floor is inside the root, so that the gradient is finite where all rows are equal.
    return mean, ops.sqrt(ops.maximum(variance, 1e-12))


def _half_line(num_points: int, t_max: float) -> tuple[list[float], list[float]]:
    """Points t > 0 of the trapezoid rule over [-t_max, t_max], and weights for t and -t together.

    The weights have the window exp(-t^2/2). At t = 0 characteristic functions are 1.
    """
    points, step = np.linspace(-t_max, t_max, num_points, retstep=True)
    points = points[(num_points + 1) // 2 :]
    weights = 2.0 * step * np.exp(-(points**2) / 2)
    weights[-1] /= 2.0
    return points.tolist(), weights.tolist()


def _quantiles(count: Any) -> Any:
    """Phi^-1(i / (N + 1)) for i from 1 to N, float32 `(N,)`."""
    places = ops.cast(ops.arange(1, count + 1), "float32") / (ops.cast(count, "float32") + 1.0)
    return math.sqrt(2.0) * ops.erfinv(2.0 * places - 1.0)
