"""Losses that spread embeddings by an estimate of their entropy."""

from typing import Any

from keras import ops

from keras_ssl.ops.similarity import l2_normalize


def koleo(x: Any, epsilon: float = 1e-8) -> Any:
    """Minus the mean log-distance to the nearest neighbour, of unit vectors: KoLeo.

        L = -1/N sum_i log( min_{j != i} |x_i - x_j| + epsilon )

    Up to constants, minus the entropy's estimate by Kozachenko and Leonenko: vectors push their
    nearest neighbours away. Sablayrolles et al. 2018, https://arxiv.org/abs/1806.03198, section
    3.1; Oquab et al. 2023 (DINOv2), https://arxiv.org/abs/2304.07193, section 4, with weight 0.1.
    Departures from the authors' code: the neighbours are those of the global batch, theirs of each
    device's; vectors that have an exact copy get no gradient from it (theirs: of the order of 1 /
    epsilon).

    Args:
        x: `(N, D)`, N > 1, any floating dtype; brought to unit length here.
        epsilon: > 0.

    Returns:
        float32 scalar, at least -log 2, which two opposite points reach; -log epsilon where every
        vector has a copy.

    Raises:
        ValueError: if `x` is not a matrix of two rows or more, or `epsilon` not positive.
    """
    if len(x.shape) != 2 or x.shape[0] == 1:
        raise ValueError(
            f"`x` must have shape (N, D), N > 1. Received: x.shape={tuple(x.shape)}. One vector "
            "has no neighbour: give the whole batch."
        )
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be > 0. Received: epsilon={epsilon}. Usual is 1e-8.")
    x = l2_normalize(x)
    rows = ops.arange(ops.shape(x)[0])
    itself = ops.equal(rows[:, None], rows[None, :])
    # The nearest has the largest cosine, which is -1 at least.
    cosines = ops.where(itself, -2.0, ops.matmul(x, ops.transpose(x)))
    nearest = ops.take(x, ops.argmax(cosines, axis=1), axis=0)
    squares = ops.sum(ops.square(x - nearest), axis=-1)
    apart = squares > 0
    distances = ops.where(apart, ops.sqrt(ops.where(apart, squares, 1.0)), 0.0)
    return -ops.mean(ops.log(distances + epsilon))
