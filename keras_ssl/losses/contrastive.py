"""Contrastive losses: tell the other view of an image from other images."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_temperature
from keras_ssl.ops.similarity import l2_normalize


def nt_xent(z1: Any, z2: Any, temperature: float = 0.5) -> Any:
    """Normalised, temperature-scaled cross-entropy: the loss of SimCLR.

    Each of the 2N vectors has to pick its other view among the 2N - 1 other vectors of the batch.
    With s_ij = <z_i, z_j> / temperature over unit vectors and p(i) the other view of i,

        L = 1/(2N) sum_i ( log sum_{j != i} exp(s_ij)  -  s_{i,p(i)} ).

    Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1 and algorithm 1.
    Departures from the authors' code: theirs returns the sum over the two views of the mean, twice
    this value.

    Args:
        z1: projections of the first views, `(N, D)`, any floating dtype; normalised here.
        z2: projections of the second views, `(N, D)`, in the same order.
        temperature: divides the similarities, > 0; 0.5 is the paper's for CIFAR-10, 0.1 for
            ImageNet.

    Returns:
        float32 scalar, > 0. At collapse (all vectors equal) it is log(2N - 1); aligned views of
        mutually orthogonal images give log(1 + (2N - 2) exp(-1 / temperature)).

    Raises:
        ValueError: if `temperature` is not positive, or the inputs are not two matrices of one
            shape.
    """
    check_temperature(temperature)
    check_matrices(z1=z1, z2=z2)
    batch = ops.shape(z1)[0]
    z = l2_normalize(ops.concatenate([z1, z2], axis=0))  # (2N, D)
    logits = ops.matmul(z, ops.transpose(z)) / temperature  # (2N, 2N)
    rows = ops.arange(2 * batch)
    itself = ops.equal(rows[:, None], rows[None, :])
    logits = ops.where(itself, -float("inf"), logits)
    positives = ops.sum(z * ops.roll(z, batch, axis=0), axis=-1) / temperature  # (2N,)
    return ops.mean(ops.logsumexp(logits, axis=-1) - positives)


def info_nce(query: Any, key: Any, queue: Any, temperature: float = 0.07) -> Any:
    """Cross-entropy of picking the query's own key among the keys of a queue: the loss of MoCo.

    With unit vectors q_i, k_i and Q_j,

        L = 1/N sum_i ( log( exp(<q_i,k_i>/t) + sum_j exp(<q_i,Q_j>/t) )  -  <q_i,k_i>/t ).

    The other keys of the batch are no negatives. Gradients reach the query alone: keys come from
    the slowly moving encoder, the queue is memory.
    He et al. 2020, https://arxiv.org/abs/1911.05722, equation 1 and algorithm 1.
    Departures from the authors' code: the queue holds one key a row here, one a column there.

    Args:
        query: `(N, D)`, any floating dtype; normalised here, like the others.
        key: `(N, D)`; row i is the positive of query i.
        queue: `(K, D)`, the negatives.
        temperature: divides the similarities, > 0; 0.07 is the paper's, 0.2 that of MoCo v2.

    Returns:
        float32 scalar, > 0; log(1 + K) when all vectors are equal, log(1 + K exp(-1 / temperature))
        when the key equals the query and the queue is orthogonal to both.

    Raises:
        ValueError: if `temperature` is not positive, or query and key are not two matrices of one
            shape, or the rows of the queue have another width.
    """
    check_temperature(temperature)
    check_matrices(query=query, key=key)
    if len(queue.shape) != 2 or queue.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"`queue` must have shape (K, {query.shape[-1]}), one key a row, as wide as `query`. "
            f"Received: queue.shape={tuple(queue.shape)}. Transpose it if keys are columns."
        )
    query = l2_normalize(query)
    key = ops.stop_gradient(l2_normalize(key))
    queue = ops.stop_gradient(l2_normalize(queue))
    positives = ops.sum(query * key, axis=-1, keepdims=True) / temperature  # (N, 1)
    negatives = ops.matmul(query, ops.transpose(queue)) / temperature  # (N, K)
    logits = ops.concatenate([positives, negatives], axis=-1)
    return ops.mean(ops.logsumexp(logits, axis=-1) - positives[:, 0])
