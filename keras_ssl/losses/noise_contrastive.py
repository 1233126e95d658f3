"""Instance discrimination: tell an image from all others by a memory of their embeddings."""

import math
from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_temperature
from keras_ssl.ops.similarity import l2_normalize


def memory_cross_entropy(query: Any, memory: Any, index: Any, temperature: float = 0.07) -> Any:
    """Cross-entropy of picking the image's own row among all rows of a memory.

    With unit vectors v_i and rows M_j of the n images, image i being row y_i,

        L = 1/N sum_i ( log sum_{j <= n} exp(<M_j, v_i> / t)  -  <M_{y_i}, v_i> / t ).

    The memory carries no gradient. Wu et al. 2018, https://arxiv.org/abs/1805.01978, equations 2
    and 3. Departures from the authors' code: none known.

    Args:
        query: v, `(N, D)`, any floating dtype; normalised here.
        memory: M, `(n, D)`, used as it is.
        index: y, integers `(N,)` in [0, n).
        temperature: t, > 0; 0.07 is the paper's, 0.1 the authors' for CIFAR-10.

    Returns:
        float32 scalar, >= 0; log n when all rows are equal.

    Raises:
        ValueError: if `temperature` is not positive, or the rows do not have the queries' width.
    """
    check_temperature(temperature)
    _check_memory("memory", memory, query)
    memory = ops.stop_gradient(ops.cast(memory, "float32"))
    scores = ops.matmul(l2_normalize(query), ops.transpose(memory)) / temperature  # (N, n)
    own = ops.take_along_axis(scores, ops.cast(index, "int32")[:, None], axis=1)
    return ops.mean(ops.logsumexp(scores, axis=-1) - own[:, 0])


def memory_scores(query: Any, positives: Any, negatives: Any, temperature: float = 0.07) -> Any:
    """Scores of queries against their own rows of a memory and against rows drawn from it.

        s_i0 = <m_i, v_i> / t,    s_ik = <r_k, v_i> / t

    Args:
        query: v, `(N, D)`, any floating dtype; normalised here.
        positives: m, `(N, D)`, used as they are and without gradient, like the negatives.
        negatives: r, `(K, D)`, rows of the memory drawn with replacement, the same for the batch.
        temperature: t, > 0.

    Returns:
        float32 `(N, 1 + K)`, for `noise_contrastive` and `partition_estimate`.

    Raises:
        ValueError: if `temperature` is not positive, query and positives are not two matrices of
            one shape, or the negatives have another width.
    """
    check_temperature(temperature)
    check_matrices(query=query, positives=positives)
    _check_memory("negatives", negatives, query)
    query = l2_normalize(query)
    positives = ops.stop_gradient(ops.cast(positives, "float32"))
    negatives = ops.stop_gradient(ops.cast(negatives, "float32"))
    own = ops.sum(query * positives, axis=-1, keepdims=True)
    others = ops.matmul(query, ops.transpose(negatives))
    return ops.concatenate([own, others], axis=-1) / temperature


def partition_estimate(scores: Any, num_images: int) -> Any:
    """Estimate of the normalising constant of exp(score) over all images, from a batch's scores.

        Z = n * mean_{i, k} exp(s_ik)

    Wu et al. 2018, https://arxiv.org/abs/1805.01978, equation 8. Departures from the authors' code:
    none known.

    Args:
        scores: s, `(N, 1 + K)`, of `memory_scores`.
        num_images: n, rows of the memory, >= 1.

    Returns:
        float32 scalar, without gradient.

    Raises:
        ValueError: if `num_images` is not positive.
    """
    _check_num_images(num_images)
    scores = ops.stop_gradient(ops.cast(scores, "float32"))
    return num_images * ops.mean(ops.exp(scores))


def noise_contrastive(scores: Any, partition: Any, num_images: int) -> Any:
    """Noise-contrastive estimation: tell the image's own row from K rows drawn at random.

    With P_ik = exp(s_ik) / Z the probability that the model gives row k, 1/n that of the noise, and
    h = P / (P + K/n) the posterior that a row is the image's own,

        L = 1/N sum_i ( -log h_i0  -  sum_{k=1..K} log(1 - h_ik) ).

    Computed from logarithms, as softplus of log(K/n) - log P and of its negative. Wu et al. 2018,
    https://arxiv.org/abs/1805.01978, equations 4 to 7. Departures from the authors' code: theirs
    adds 1e-7 to P + K/n.

    Args:
        scores: s, `(N, 1 + K)` with K >= 1, any floating dtype; the image's own row first.
        partition: Z, a positive scalar, taken as a constant.
        num_images: n, rows of the memory, >= 1.

    Returns:
        float32 scalar, > 0; log(1 + K) + K log((1 + K) / K) where P is 1/n everywhere.

    Raises:
        ValueError: if `num_images` is not positive, or there is no negative.
    """
    _check_num_images(num_images)
    if len(scores.shape) != 2 or (scores.shape[1] is not None and scores.shape[1] < 2):
        raise ValueError(
            "`scores` must have shape (N, 1 + K), the image's own row and K >= 1 others. Received: "
            f"scores.shape={tuple(scores.shape)}. Make them with `memory_scores`."
        )
    negatives = ops.cast(ops.shape(scores)[1] - 1, "float32")
    partition = ops.stop_gradient(ops.cast(partition, "float32"))
    noise = ops.log(negatives) - math.log(num_images)
    odds = ops.cast(scores, "float32") - ops.log(partition) - noise  # log P / (K/n)
    own, others = ops.softplus(-odds[:, 0]), ops.softplus(odds[:, 1:])
    return ops.mean(own + ops.sum(others, axis=-1))


def _check_memory(name: str, rows: Any, query: Any) -> None:
    if len(query.shape) != 2 or len(rows.shape) != 2 or rows.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"`query` must have shape (N, D) and `{name}` one row of width D an image. Received: "
            f"query.shape={tuple(query.shape)}, {name}.shape={tuple(rows.shape)}. Give the memory "
            "the width of the embeddings."
        )


def _check_num_images(num_images: int) -> None:
    if not num_images >= 1:
        raise ValueError(
            f"`num_images` must be >= 1, the rows of the memory. Received: num_images={num_images}."
        )
