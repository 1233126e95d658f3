"""Whitening of a batch by its own covariance."""

from typing import Any

from keras import ops


def whiten(x: Any) -> Any:
    """Rows transformed to mean 0 and identity covariance.

        C = (x - m)^T (x - m) / (n - 1) = L L^T,    y_i = L^-1 (x_i - m)

    with L the Cholesky factor of C, through which the gradient flows. Ermolov et al. 2021 (W-MSE),
    https://arxiv.org/abs/2007.06346, section 3.1 (after Siarohin et al. 2019).

    Args:
        x: `(..., n, D)` with n > D, any floating dtype: each `(n, D)` is whitened by itself.

    Returns:
        float32 tensor of the shape of `x`.

    Raises:
        ValueError: if n is known not to exceed D: the covariance would be singular.
    """
    n, width = x.shape[-2:]
    if n is None or n <= width:
        raise ValueError(
            "`x` must have more rows than columns, (..., n, D) with n > D, to be whitened. "
            f"Received: x.shape={tuple(x.shape)}. Take larger batches or narrower embeddings."
        )
    x = ops.cast(x, "float32")
    centred = x - ops.mean(x, axis=-2, keepdims=True)
    columns = ops.swapaxes(centred, -1, -2)
    factor = ops.linalg.cholesky(ops.matmul(columns, centred) / (n - 1))
    return ops.swapaxes(ops.linalg.solve_triangular(factor, columns, lower=True), -1, -2)
