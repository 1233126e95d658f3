"""Redundancy reduction: alike between views, unlike between the dimensions of an embedding."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices
from keras_ssl.ops.similarity import l2_normalize


def barlow_twins(z1: Any, z2: Any, off_diagonal_weight: float = 5e-3) -> Any:
    """Squared distance of the views' cross-correlation matrix from the identity.

    With every dimension of each view standardised over the batch, to mean 0 and variance 1,

        C = z1^T z2 / N,    L = sum_i (1 - C_ii)^2 + off_diagonal_weight sum_{i != j} C_ij^2.

    Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, equations 1 and 2.
    Departures from the authors' code: on several devices theirs divides the gradient by their
    number; here it is that of the loss.

    Args:
        z1: embeddings of the first views, `(N, D)`, N > 1, any floating dtype; standardised here
            with the biased variance, to which 1e-5 is added.
        z2: embeddings of the second views, `(N, D)`, in the same order.
        off_diagonal_weight: lambda of the paper, >= 0; 5e-3 there, 0.0051 in the authors' code.

    Returns:
        float32 scalar >= 0, a sum over the D^2 entries: 0 for equal views of uncorrelated
        dimensions, D at collapse (all vectors equal), off_diagonal_weight D (D - 1) for equal views
        of which all dimensions are equal.

    Raises:
        ValueError: if the weight is negative, or the inputs are not two matrices of one shape.
    """
    _check_weights(off_diagonal_weight=off_diagonal_weight)
    check_matrices(z1=z1, z2=z2)
    z1, z2 = _standardized(z1), _standardized(z2)
    count = ops.cast(ops.shape(z1)[0], "float32")
    correlation = ops.matmul(ops.transpose(z1), z2) / count  # (D, D)
    on_diagonal = ops.sum(ops.square(1.0 - ops.diagonal(correlation)))
    return on_diagonal + off_diagonal_weight * _off_diagonal_squares(correlation)


def vicreg(
    z1: Any,
    z2: Any,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Any:
    """Mean squared distance of the views, and for each view a spread and no covariances.

        L = invariance_weight s + variance_weight (v(z1) + v(z2)) / 2
            + covariance_weight (c(z1) + c(z2))
        s    = 1/(N D) sum_ij (z1_ij - z2_ij)^2
        v(z) = 1/D sum_j max(0, 1 - sqrt(Var_j(z) + 1e-4))
        c(z) = 1/D sum_{i != j} Cov_ij(z)^2

    with variances and covariances over the batch, divided by N - 1.

    Bardes, Ponce, LeCun 2022, https://arxiv.org/abs/2105.04906, equations 1 to 6. The form is that
    of the authors' code, with which the paper's weights were found: the paper's equations do not
    halve the sum of the v and do not divide s by D.
    Departures from the authors' code: none known.

    Args:
        z1: embeddings of the first views, `(N, D)`, N > 1, any floating dtype; not normalised.
        z2: embeddings of the second views, `(N, D)`, in the same order.
        invariance_weight: of s, >= 0.
        variance_weight: of the mean of the two v, >= 0.
        covariance_weight: of the sum of the two c, >= 0.

    Returns:
        float32 scalar >= 0: 0 for equal views whose dimensions are uncorrelated and have variance 1
        or more, 0.99 variance_weight at collapse (all vectors equal).

    Raises:
        ValueError: if a weight is negative, or the inputs are not two matrices of one shape.
    """
    _check_weights(
        invariance_weight=invariance_weight,
        variance_weight=variance_weight,
        covariance_weight=covariance_weight,
    )
    check_matrices(z1=z1, z2=z2)
    z1, z2 = ops.cast(z1, "float32"), ops.cast(z2, "float32")
    (v1, c1), (v2, c2) = _variance_and_covariance(z1), _variance_and_covariance(z2)
    loss = invariance_weight * ops.mean(ops.square(z1 - z2))
    return loss + variance_weight * (v1 + v2) / 2 + covariance_weight * (c1 + c2)


def coding_rate(z: Any, epsilon: float = 0.05) -> Any:
    """Volume that embeddings fill: half the log-determinant of their second moments.

    With rows of unit length, N of them of D numbers each,

        R = 1/2 log det( I + D / (N epsilon) z^T z ),

    the rate, in nats, of coding them up to an error of epsilon: D/2 log(1 + 1 / epsilon) where they
    spread evenly over all directions, the most that is possible, and 1/2 log(1 + D / epsilon) where
    all are equal. Yu et al. 2020, https://arxiv.org/abs/2006.08558, equation 7; to be maximised:
    Wu et al. 2025 (SimDINO), https://arxiv.org/abs/2502.10385, section 3.

    Args:
        z: `(N, D)`, any floating dtype; brought to unit length here.
        epsilon: > 0; the squared error.

    Returns:
        float32 scalar.

    Raises:
        ValueError: if `epsilon` is not positive or `z` not a matrix.
    """
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be > 0. Received: epsilon={epsilon}. Usual is 0.05.")
    if len(z.shape) != 2:
        raise ValueError(f"`z` must have shape (N, D). Received: z.shape={tuple(z.shape)}.")
    z = l2_normalize(z)
    width = z.shape[1]
    share = width / (epsilon * ops.cast(ops.shape(z)[0], "float32"))
    moments = ops.eye(width) + share * ops.matmul(ops.transpose(z), z)
    # log det of a positive matrix: twice the logs of the diagonal of its Cholesky factor.
    return ops.sum(ops.log(ops.diagonal(ops.cholesky(moments))))


def _variance_and_covariance(z: Any) -> tuple[Any, Any]:
    """The terms v and c of VICReg for one view, float32 `(N, D)`."""
    count = ops.cast(ops.shape(z)[0], "float32")
    z = z - ops.mean(z, axis=0)
    covariance = ops.matmul(ops.transpose(z), z) / (count - 1.0)  # (D, D)
    spread = ops.sqrt(ops.sum(ops.square(z), axis=0) / (count - 1.0) + 1e-4)
    variance = ops.mean(ops.relu(1.0 - spread))
    return variance, _off_diagonal_squares(covariance) / z.shape[-1]


def _standardized(z: Any) -> Any:
    """Columns of mean 0 and variance 1 (of variance 0 where they are constant), float32."""
    mean, variance = ops.moments(ops.cast(z, "float32"), axes=0)
    return (ops.cast(z, "float32") - mean) * ops.rsqrt(variance + 1e-5)


def _off_diagonal_squares(matrix: Any) -> Any:
    """Sum of squares of what is not on the diagonal of a square matrix."""
    on_diagonal = ops.eye(matrix.shape[0], dtype="bool")
    return ops.sum(ops.square(ops.where(on_diagonal, 0.0, matrix)))


def _check_weights(**named: float) -> None:
    """Raise unless all weights are >= 0."""
    for name, weight in named.items():
        if not weight >= 0:
            raise ValueError(f"`{name}` must be >= 0. Received: {name}={weight}. Use 0 for none.")
