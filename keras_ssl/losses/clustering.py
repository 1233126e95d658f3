"""Clustering losses: predict the cluster assignment of an image's other view."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_temperature
from keras_ssl.ops.entropy import mean_entropy
from keras_ssl.ops.sinkhorn import sinkhorn


def swapped_prediction(
    scores1: Any,
    scores2: Any,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Any:
    """Predict each view's balanced assignment from the other view's scores: the loss of SwAV.

    With scores s_v of view v (cosines with the K prototypes) and codes q_v = sinkhorn(s_v),

        L = 1/2 ( H(q_1, s_2) + H(q_2, s_1) ),
        H(q, s) = -1/B sum_i sum_k q_ik log softmax_k(s_i / temperature).

    Codes carry no gradient. Caron et al. 2020, https://arxiv.org/abs/2006.09882, section 3.1,
    equations 1 and 2. For more than two views see `code_cross_entropy`.
    Departures from the authors' code: none known for two views.

    Args:
        scores1: `(B, K)`, any floating dtype; the whole global batch.
        scores2: the same of the other views, in the same order.
        temperature: divides the scores of the prediction, > 0; 0.1 is the paper's.
        epsilon: divides the scores of the codes, > 0; see `keras_ssl.ops.sinkhorn`.
        iterations: of Sinkhorn, >= 1.

    Returns:
        float32 scalar, at least the codes' mean entropy; log K when all scores are equal.

    Raises:
        ValueError: if a number is outside its range, or the scores are not two matrices of one
            shape.
    """
    check_matrices(scores1=scores1, scores2=scores2)
    codes1, codes2 = (sinkhorn(s, epsilon, iterations) for s in (scores1, scores2))
    there = code_cross_entropy(codes1, scores2, temperature)
    back = code_cross_entropy(codes2, scores1, temperature)
    return (there + back) / 2


def code_cross_entropy(codes: Any, scores: Any, temperature: float = 0.1) -> Any:
    """Cross-entropy of assignments and the softmax of scores, without gradient to the codes.

        H(q, s) = -1/B sum_i sum_k q_ik log softmax_k(s_i / temperature)

    H is linear in q: for many views the codes of all others can be added up first. Caron et al.
    2020, https://arxiv.org/abs/2006.09882, equations 2 and 6.

    Args:
        codes: q, `(B, K)`, rows that sum to 1, or a sum of such matrices.
        scores: s, `(B, K)`, any floating dtype.
        temperature: > 0.

    Returns:
        float32 scalar, at least the mean entropy of the codes' rows.

    Raises:
        ValueError: if `temperature` is not positive, or the inputs are not two matrices of one
            shape.
    """
    check_temperature(temperature)
    check_matrices(codes=codes, scores=scores)
    codes = ops.stop_gradient(ops.cast(codes, "float32"))
    log_p = ops.log_softmax(ops.cast(scores, "float32") / temperature, axis=-1)
    return -ops.mean(ops.sum(codes * log_p, axis=-1))


def code_divergence(codes: Any, scores: Any, temperature: float = 1.0) -> Any:
    """`code_cross_entropy` less the codes' entropy, which has the same gradient and the minimum 0.

        1/B sum_i KL(q_i || softmax(s_i / temperature)),    0 where the two are equal.

    Gidaris et al. 2021 (OBoW), https://arxiv.org/abs/2012.11552, section 3; the authors' code.

    Args:
        codes: q, `(B, K)`, rows that sum to 1; no gradient reaches them.
        scores: s, `(B, K)`, any floating dtype.
        temperature: > 0.

    Returns:
        float32 scalar; log K less the codes' mean entropy where all scores are equal.

    Raises:
        ValueError: as `code_cross_entropy`.
    """
    entropy = ops.stop_gradient(mean_entropy(codes))
    return code_cross_entropy(codes, scores, temperature) - entropy


def cross_view_cross_entropy(
    codes: Sequence[Any], scores: Sequence[Any], temperature: float = 0.1
) -> Any:
    """Mean of `code_cross_entropy` over all pairs of codes and scores of different views.

        L = 1/P sum_v sum_{u != v} H(q_v, s_u),    P = V (U - 1)

    for the codes of the first V of U views: the loss of SwAV and DINO with multi-crop. Caron et al.
    2020, https://arxiv.org/abs/2006.09882, equation 6; Caron et al. 2021,
    https://arxiv.org/abs/2104.14294, equation 3.

    Args:
        codes: q_v, V matrices `(B, K)` with rows that sum to 1; no gradient reaches them.
        scores: s_u, U matrices `(B, K)`, U >= V and U >= 2, the V views first.
        temperature: > 0.

    Returns:
        float32 scalar.

    Raises:
        ValueError: if there are too few scores, or as `code_cross_entropy`.
    """
    if len(scores) < max(2, len(codes)):
        raise ValueError(
            "`scores` must be of two views or more, and of each view that has codes. Received: "
            f"{len(scores)} scores, {len(codes)} codes."
        )
    total = 0.0
    for u, predicted in enumerate(scores):
        targets = [q for v, q in enumerate(codes) if v != u]
        if targets:  # H is linear in the codes
            total += code_cross_entropy(sum(targets), predicted, temperature)
    return total / (len(codes) * (len(scores) - 1))
