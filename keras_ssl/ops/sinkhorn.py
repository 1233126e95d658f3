"""Balanced assignments to prototypes."""

from typing import Any

from keras import ops


def sinkhorn(scores: Any, epsilon: Any = 0.05, iterations: int = 3, weights: Any = None) -> Any:
    """Soft assignments of samples to prototypes that use all prototypes about equally.

    Starting from Q = exp(scores / epsilon), each iteration divides the columns by their sums, then
    the rows:

        Q_ik <- Q_ik / sum_i Q_ik,    Q_ik <- Q_ik / sum_k Q_ik.

    The limit maximises sum_ik Q_ik scores_ik + epsilon * entropy(Q) over matrices whose rows sum to
    1 and whose columns sum to B / K; a few iterations come close enough. Computed in logarithms, so
    a small epsilon does not overflow. Adding a constant to all scores changes nothing.

    Cuturi 2013, https://arxiv.org/abs/1306.0895; Caron et al. 2020 (SwAV),
    https://arxiv.org/abs/2006.09882, section 3.1 and appendix A.
    Departures from the authors' code: logarithms; their divisions by B and K cancel and are left
    out.

    Args:
        scores: `(B, K)`, any floating dtype; the whole global batch.
        epsilon: > 0, a number or a scalar tensor; the smaller, the harder the assignments. SwAV:
            0.05 for cosines.
        iterations: >= 1; SwAV: 3.
        weights: `(B,)`, 1 for samples that count and 0 for others, which get an assignment but do
            not share in the balance of the columns; None for 1.

    Returns:
        float32 `(B, K)`, >= 0; every row sums to 1, every column to about B / K.

    Raises:
        ValueError: if `scores` is not a matrix or a number is outside its range.
    """
    if len(scores.shape) != 2:
        raise ValueError(
            "`scores` must have shape (B, K), samples by prototypes. "
            f"Received: scores.shape={tuple(scores.shape)}. Reshape it to a matrix."
        )
    if isinstance(epsilon, int | float) and not epsilon > 0:
        raise ValueError(
            f"`epsilon` must be > 0. Received: epsilon={epsilon}. 0.05 suits cosine scores."
        )
    if iterations < 1:
        raise ValueError(
            f"`iterations` must be >= 1. Received: iterations={iterations}. 3 is usual."
        )
    log_q = ops.cast(scores, "float32") / epsilon
    for _ in range(iterations):
        if weights is None:
            log_q = ops.log_softmax(log_q, axis=0)
        else:
            log_q = log_q - _log_column_sums(log_q, weights)
        log_q = ops.log_softmax(log_q, axis=1)
    return ops.softmax(log_q, axis=1)  # of logarithms of rows that sum to 1: their exponential


def _log_column_sums(log_q: Any, weights: Any) -> Any:
    """Of the rows that count, `(1, K)`; 0 where none does."""
    counted = ops.where(ops.cast(weights, "float32")[:, None] > 0, log_q, -1e30)
    sums = ops.logsumexp(counted, axis=0, keepdims=True)
    return ops.where(sums > -1e29, sums, 0.0)
