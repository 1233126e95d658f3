"""Losses on whitened embeddings."""

import itertools
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.ops.similarity import l2_normalize
from keras_ssl.ops.whitening import whiten


def whitened_mse(embeddings: Sequence[Any], slice_size: int, orders: Any = None) -> Any:
    """Mean squared distance of whitened, normalised embeddings of the views of each image.

        L = 2 / (V (V - 1)) sum_{u < v} 1/N sum_i |z_ui - z_vi|^2,    z_v = W(h_v) / |W(h_v)|

    where W whitens `slice_size` rows at a time by their own mean and covariance (`ops.whiten`).
    Ermolov et al. 2021 (W-MSE), https://arxiv.org/abs/2007.06346, equations 3 to 5. Departures from
    the authors' code: none known.

    Args:
        embeddings: two or more tensors `(N, D)`, one a view, in one order.
        slice_size: rows that are whitened together, more than D; must divide N.
        orders: int tensor `(M, N)`, permutations of the rows, the same for all views; slices are
            cut from each and the losses averaged. None for the given order.

    Returns:
        float32 scalar in [0, 4]: 0 for equal views, about 2 for unrelated ones.

    Raises:
        ValueError: if there are fewer than two views, shapes differ, or `slice_size` does not fit.
    """
    shapes = {tuple(h.shape) for h in embeddings}
    if len(embeddings) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            "`embeddings` must be two or more tensors of one shape (N, D). "
            f"Received: shapes {[tuple(h.shape) for h in embeddings]}."
        )
    ((rows, width),) = shapes
    if slice_size <= width or rows is None or rows % slice_size:
        raise ValueError(
            "`slice_size` must exceed the width of the embeddings and divide the batch. Received: "
            f"slice_size={slice_size}, {width} wide embeddings of a batch of {rows}. "
            "Choose a batch that is a multiple of slice_size, or a smaller slice_size."
        )
    if orders is None:
        orders = ops.reshape(ops.arange(rows), (1, rows))
    count = orders.shape[0] * rows // slice_size
    places = ops.reshape(orders, (-1,))
    units = [
        l2_normalize(whiten(ops.reshape(ops.take(h, places, axis=0), (count, slice_size, width))))
        for h in embeddings
    ]
    pairs = list(itertools.combinations(units, 2))
    return sum(2.0 - 2.0 * ops.mean(ops.sum(a * b, axis=-1)) for a, b in pairs) / len(pairs)
