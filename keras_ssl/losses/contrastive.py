"""Contrastive losses: tell the other view of an image from other images."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_queue, check_temperature
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
    check_queue(queue, query.shape[-1], like="query")
    query = l2_normalize(query)
    key = ops.stop_gradient(l2_normalize(key))
    queue = ops.stop_gradient(l2_normalize(queue))
    positives = ops.sum(query * key, axis=-1, keepdims=True) / temperature  # (N, 1)
    negatives = ops.matmul(query, ops.transpose(queue)) / temperature  # (N, K)
    logits = ops.concatenate([positives, negatives], axis=-1)
    return ops.mean(ops.logsumexp(logits, axis=-1) - positives[:, 0])


def decoupled_contrastive(
    z1: Any, z2: Any, temperature: float = 0.1, sigma: float | None = None
) -> Any:
    """NT-Xent without the positive in the denominator: the loss of DCL, and with `sigma` of DCLW.

    With s_ij = <z_i, z_j> / temperature over the 2N unit vectors and p(i) the other view of i,

        L = 1/(2N) sum_i ( log sum_{j not in {i, p(i)}} exp(s_ij)  -  w_i s_{i,p(i)} ),

    so the gradient of the positive does not vanish as the views get close (at w = 1 each term of
    NT-Xent is the softplus of this one's). DCL has w = 1. DCLW gives more weight to images whose
    views lie far apart,

        w_i = 2 - N softmax_i( <z_i, z_p(i)> / sigma ),

    which is 1 on average and carries no gradient. Yeh et al. 2021,
    https://arxiv.org/abs/2110.06848, section 3. Departures from the paper: none known.

    Args:
        z1: projections of the first views, `(N, D)`, any floating dtype; normalised here.
        z2: projections of the second views, `(N, D)`, in the same order.
        temperature: divides the similarities, > 0.
        sigma: divides the cosines in the weights of DCLW, > 0 (paper: 0.5); None for DCL.

    Returns:
        float32 scalar, of either sign: at w = 1 at least log(2N - 2) - 2 / temperature, and
        log(2N - 2) when all vectors are equal.

    Raises:
        ValueError: if `temperature` or `sigma` is not positive, the inputs are not two matrices of
            one shape, or there is one image alone, which has no negatives.
    """
    check_temperature(temperature)
    check_matrices(z1=z1, z2=z2)
    if sigma is not None and not sigma > 0:
        raise ValueError(
            f"`sigma` must be > 0, or None. Received: sigma={sigma}. The paper's is 0.5."
        )
    if z1.shape[0] == 1:
        raise ValueError(
            "`z1` and `z2` must hold at least 2 images. Received: 1, which has no negatives. "
            "Use a larger batch."
        )
    batch = ops.shape(z1)[0]
    z = l2_normalize(ops.concatenate([z1, z2], axis=0))  # (2N, D)
    logits = ops.matmul(z, ops.transpose(z)) / temperature  # (2N, 2N)
    image = ops.arange(2 * batch) % batch
    own = ops.equal(image[:, None], image[None, :])
    negatives = ops.logsumexp(ops.where(own, -float("inf"), logits), axis=-1)  # (2N,)
    cosines = ops.sum(z[:batch] * z[batch:], axis=-1)  # (N,), the same for both views
    positives = cosines / temperature
    if sigma is not None:
        weights = 2.0 - ops.cast(batch, "float32") * ops.softmax(cosines / sigma)
        positives = ops.stop_gradient(weights) * positives
    return ops.mean(negatives) - ops.mean(positives)


def supervised_contrastive(z: Any, labels: Any, temperature: float = 0.1) -> Any:
    """Every other vector of the same label is a positive: the loss of SupCon.

    With s_ij = <z_i, z_j> / temperature over the M unit vectors and P(i) the others of i's label,

        L = 1/M sum_i ( log sum_{j != i} exp(s_ij)  -  1/|P(i)| sum_{p in P(i)} s_ip ),

    with the mean over positives outside the logarithm (the paper's L_out). A vector without
    positives contributes 0. With two views of each image and labels that are all different it
    equals `nt_xent`.

    Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2. Departures from the authors'
    code: no factor temperature / 0.07.

    Args:
        z: projections `(M, D)`, any floating dtype; normalised here. Several views of an image are
            several rows.
        labels: whole numbers, `(M,)`.
        temperature: divides the similarities, > 0; 0.1 is the paper's.

    Returns:
        float32 scalar, >= 0; log(M - 1) when all vectors are equal and none is alone with its
        label.

    Raises:
        ValueError: if `temperature` is not positive, or the shapes are not `(M, D)` and `(M,)` with
            M >= 2.
    """
    check_temperature(temperature)
    known = {z.shape[0], labels.shape[0]} - {None}
    if len(z.shape) != 2 or len(labels.shape) != 1 or len(known) > 1:
        raise ValueError(
            "`z` and `labels` must have shapes (M, D) and (M,). "
            f"Received: z.shape={tuple(z.shape)}, labels.shape={tuple(labels.shape)}. "
            "Repeat the labels for every view; one-hot rows must be turned into numbers."
        )
    if z.shape[0] == 1:
        raise ValueError(
            "`z` must have at least 2 rows. Received: 1, which nothing can be compared with."
        )
    z = l2_normalize(z)
    logits = ops.matmul(z, ops.transpose(z)) / temperature  # (M, M)
    rows = ops.arange(ops.shape(z)[0])
    itself = ops.equal(rows[:, None], rows[None, :])
    totals = ops.logsumexp(ops.where(itself, -float("inf"), logits), axis=-1)  # (M,)
    alike = ops.equal(labels[:, None], labels[None, :])
    positive = ops.cast(ops.logical_and(alike, ops.logical_not(itself)), "float32")
    count = ops.sum(positive, axis=-1)
    positives = ops.sum(positive * logits, axis=-1) / ops.maximum(count, 1.0)
    return ops.mean(ops.where(count > 0, totals - positives, 0.0))


def inter_view_nce(anchors: Any, candidates: Any, temperature: float = 0.1) -> Any:
    """Cross-entropy of picking the own row among rows of the other view alone: the loss of NNCLR.

    With unit vectors a_i and c_j,

        L = 1/N sum_i ( log sum_j exp(<a_i, c_j> / temperature)  -  <a_i, c_i> / temperature ).

    Unlike `nt_xent`, other rows of the anchor's view are no negatives. Dwibedi et al. 2021,
    https://arxiv.org/abs/2104.14548, equation 2, with the anchors nearest neighbours, and the
    candidates predictions. Departures from the paper: none known.

    Args:
        anchors: `(N, D)`, any floating dtype; normalised here, like the candidates.
        candidates: `(N, D)`; row i is the positive of anchor i, the others are its negatives.
        temperature: divides the similarities, > 0; 0.1 is the paper's.

    Returns:
        float32 scalar, >= 0; log N when all candidates are equal, or all anchors and the similarity
        to every candidate.

    Raises:
        ValueError: if `temperature` is not positive, or the inputs are not two matrices of one
            shape.
    """
    check_temperature(temperature)
    check_matrices(anchors=anchors, candidates=candidates)
    anchors, candidates = l2_normalize(anchors), l2_normalize(candidates)
    logits = ops.matmul(anchors, ops.transpose(candidates)) / temperature  # (N, N)
    positives = ops.sum(anchors * candidates, axis=-1) / temperature
    return ops.mean(ops.logsumexp(logits, axis=-1) - positives)
