"""Mutual information of two views of an image, estimated by a trained encoder."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from keras_ssl.evaluation.monitors import unit_rows

TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class SharedInformation:
    """Result of `shared_information`; `float(result)` is the bound.

    Attributes:
        nats: lower bound on the mutual information of the views, in nats; it can be negative.
        limit: log N, which the bound cannot exceed with N pairs; near it, it is uninformative.
        temperature: the temperature of the scores.
        num_pairs: N, pairs contrasted at a time.
    """

    nats: float
    limit: float
    temperature: float
    num_pairs: int

    def __float__(self) -> float:
        return self.nats


def shared_information(
    first: np.ndarray,
    second: np.ndarray,
    num_pairs: int = 512,
    temperatures: Sequence[float] = TEMPERATURES,
) -> SharedInformation:
    """A lower bound on the mutual information of two views, from their embeddings.

    With unit vectors u_i, w_i of the two views of image i and s_ij = u_i . w_j / t,

        I(view 1; view 2) >= log N - mean_i ( log sum_{j <= N} exp s_ij - s_ii ),

    the mean over both directions and over groups of N images. The bound (InfoNCE; van den Oord et
    al. 2018, https://arxiv.org/abs/1807.03748, section 2.3) holds for any scores; the better the
    encoder, the closer it comes. Tian et al. 2020 (InfoMin), https://arxiv.org/abs/2005.10243,
    section 3, compare views by it: features are best where views share what the task needs and
    little else. The temperature is the best one on the first half of the groups; the bound is
    measured on the other half.

    Args:
        first: embeddings of the first view, `(images, D)`, e.g. `model.embed`'s.
        second: embeddings of the second view of the same images, in the same order.
        num_pairs: N; there must be two groups of N images.
        temperatures: candidates for t, > 0.

    Returns:
        The bound, with its limit log N.

    Raises:
        ValueError: if the arrays are not two matrices of one shape, are too short or not finite, or
            a number is out of range.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    _check(first, second, num_pairs, temperatures)
    groups = len(first) // num_pairs
    u, w = (
        unit_rows(x[: groups * num_pairs]).reshape(groups, num_pairs, -1) for x in (first, second)
    )
    half = groups // 2
    tuned = {t: _bound(u[:half], w[:half], t) for t in temperatures}
    best = max(tuned, key=tuned.get)
    nats = _bound(u[half:], w[half:], best)
    return SharedInformation(nats, float(np.log(num_pairs)), best, num_pairs)


def _bound(u: np.ndarray, w: np.ndarray, temperature: float) -> float:
    """Mean of the bound over groups and both directions."""
    terms = []
    for a, b in zip(u, w):
        scores = a @ b.T / temperature
        for s in (scores, scores.T):
            terms.append(np.log(len(s)) - np.mean(logsumexp(s, axis=1) - np.diag(s)))
    return float(np.mean(terms))


def _check(first: np.ndarray, second: np.ndarray, num_pairs: int, temperatures: Sequence) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            "`first` and `second` must be two matrices of one shape, a row for each image. "
            f"Received: {first.shape} and {second.shape}."
        )
    if num_pairs < 2 or len(first) < 2 * num_pairs:
        raise ValueError(
            "`num_pairs` must be >= 2, and at most half the images. Received: num_pairs="
            f"{num_pairs} and {len(first)} images. Pass more images or fewer pairs."
        )
    if not temperatures or min(temperatures) <= 0:
        raise ValueError(f"`temperatures` must be positive. Received: {temperatures}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("`first` and `second` must be finite. Received: NaN or infinity.")
