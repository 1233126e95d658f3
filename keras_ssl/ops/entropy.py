"""Entropies of assignments, which show a collapse."""

import math
from typing import Any

from keras import ops


def mean_entropy(distributions: Any) -> Any:
    """Entropy of each distribution, -sum_k p_k log p_k in nats; the mean of all.

    Args:
        distributions: `(..., K)`, >= 0, rows that sum to 1.

    Returns:
        float32 scalar from 0 (each is sure of one) to log K (each is even).
    """
    p = ops.cast(distributions, "float32")
    return -ops.mean(ops.sum(p * ops.log(ops.maximum(p, 1e-30)), axis=-1))


def usage_entropy(codes: Any) -> Any:
    """How evenly assignments (or predictions of them) use the prototypes: entropy of their mean.

        -sum_k m_k log m_k / log K,    m = mean_i codes_i

    Codes made by `sinkhorn` are even by construction; a collapse shows in the softmax of scores.

    Args:
        codes: `(B, K)` with K >= 2, rows that sum to 1.

    Returns:
        float32 scalar in [0, 1]: 1 when all are used alike, 0 when everything goes to one.

    Raises:
        ValueError: if `codes` is not a matrix of at least two columns.
    """
    if len(codes.shape) != 2 or codes.shape[-1] < 2:
        raise ValueError(
            "`codes` must have shape (B, K) with K >= 2. "
            f"Received: codes.shape={tuple(codes.shape)}. With one prototype nothing is measured."
        )
    mean = ops.mean(ops.cast(codes, "float32"), axis=0)
    return mean_entropy(mean) / math.log(codes.shape[-1])
