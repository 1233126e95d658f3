"""Weighted k-nearest-neighbour accuracy of frozen features.

Wu, Xiong, Yu, Lin 2018, https://arxiv.org/abs/1805.01978 (section 3.4, testing protocol).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_ssl.evaluation.features import labelled_features

QUERY_CHUNK = 1024
BANK_CHUNK = 8192


def weighted_knn(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    k: int = 200,
    temperature: float = 0.07,
    return_votes: bool = False,
    leave_one_out: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Class of each query by a vote of its most similar training features.

    With unit vectors q (query) and x_j (bank), s_j = q . x_j:
        votes[c] = sum over the k largest s_j of exp(s_j / temperature) [labels_j = c]
    and the prediction is the class with most votes (the lower class on a tie). Both sets are
    L2-normalised here. Work goes by blocks of queries and of the bank with a running top k, so
    memory beside the features does not grow with either set.

    Wu et al. 2018, https://arxiv.org/abs/1805.01978 (section 3.4). Departures: the vote is
    taken relative to the row's largest similarity for the prediction, which leaves the argmax
    as it is and cannot overflow.

    Args:
        train: bank features (N, D).
        labels: integer class of each bank feature, (N,), >= 0.
        test: query features (M, D).
        k: neighbours that vote; the paper's 200. A bank with fewer lets all of them vote.
        temperature: > 0; the paper's 0.07.
        return_votes: also return the votes.
        leave_one_out: the queries are the bank itself, and no feature votes for itself.

    Returns:
        predictions, int64 (M,); with `return_votes` also the votes, float64 (M, classes), as
        in the equation (below a temperature of about 0.0015 they overflow to infinity).

    Raises:
        ValueError: shapes do not fit, features are not finite, or a parameter is out of range.
    """
    train, labels, test = np.asarray(train), np.asarray(labels), np.asarray(test)
    _check(train, labels, test, k, temperature, leave_one_out)
    labels = labels.astype(np.int64)
    # A bank smaller than k lets all vote.
    k = min(k, len(train) - int(leave_one_out))
    classes = int(labels.max()) + 1
    predictions = np.empty(len(test), np.int64)
    votes = np.empty((len(test), classes)) if return_votes else None
    for start in range(0, len(test), QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        similarity, index = _neighbours(train, test[rows], k, start if leave_one_out else None)
        top = similarity.max(axis=1, keepdims=True)
        relative = np.exp((similarity - top) / temperature)
        counted = _count(relative, labels[index], classes)
        predictions[rows] = counted.argmax(axis=1)
        if votes is not None:
            with np.errstate(over="ignore"):
                weights = np.exp(similarity / temperature)
            votes[rows] = _count(weights, labels[index], classes)
    return (predictions, votes) if return_votes else predictions


def knn_accuracy(
    encode: Callable[[Any], Any],
    train: Any,
    test: Any = None,
    k: int | None = 200,
    temperature: float = 0.07,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
) -> float:
    """Share of test images that `weighted_knn` puts in their class.

    Report it with k, temperature, the layer of the features and the size of the bank.

    Wu et al. 2018, https://arxiv.org/abs/1805.01978. Departures: none known.

    Args:
        encode: images (B, H, W, C) -> features (B, D), for instance `model.encode`.
        train: the bank: (images, labels), or a `data.Source` with labels.
        test: the queries, in the same forms; None takes the bank, leaving out each query itself.
        k: neighbours that vote; None chooses min(200, N / classes / 2), for small banks.
        temperature: > 0.
        batch_size: images per call of `encode`.
        image_size: (height, width), needed for sources whose images differ in size.

    Returns:
        accuracy in [0, 1].

    Raises:
        ValueError: labels are missing, or see `weighted_knn`.
    """
    bank, labels = labelled_features(encode, train, batch_size, image_size)
    if k is None:
        k = max(1, min(200, len(labels) // len(np.unique(labels)) // 2))
    if test is None:
        predicted = weighted_knn(bank, labels, bank, k, temperature, leave_one_out=True)
        return float(np.mean(predicted == labels))
    queries, test_labels = labelled_features(encode, test, batch_size, image_size, "test", train)
    return float(np.mean(weighted_knn(bank, labels, queries, k, temperature) == test_labels))


def _neighbours(
    train: np.ndarray, queries: np.ndarray, k: int, offset: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and bank indices (rows, k) of each query's k nearest.

    `offset`: bank index of the first query, if each query is left out of its own neighbours.
    """
    queries = _unit(queries, "test")
    best = np.empty((len(queries), 0), np.float32)
    index = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(train), BANK_CHUNK):
        scores = queries @ _unit(train[start : start + BANK_CHUNK], "train").T
        if offset is not None:
            rows = np.arange(len(queries))
            columns = rows + offset - start
            inside = (columns >= 0) & (columns < scores.shape[1])
            scores[rows[inside], columns[inside]] = -np.inf
        best, index = _merge(best, index, scores, start, k)
    return best.astype(np.float64), index


def _merge(
    best: np.ndarray, index: np.ndarray, scores: np.ndarray, start: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of those kept so far and one more block of the bank, in order of the bank."""
    # Once k are known, only what beats the worst of them matters.
    if best.shape[1] == k:
        scores, chosen = _above(scores, best.min(axis=1, keepdims=True))
    else:
        chosen = _top(scores, k)
        scores = np.take_along_axis(scores, chosen, axis=1)
    scores = np.concatenate([best, scores], axis=1)
    index = np.concatenate([index, chosen + start], axis=1)
    chosen = _top(scores, k)
    return np.take_along_axis(scores, chosen, axis=1), np.take_along_axis(index, chosen, axis=1)


def _above(scores: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries above each row's floor and their columns, filled up with -inf to equal length.

    After a few blocks these are a small part of a block, and cheaper to find than its top k.
    """
    rows, columns = np.nonzero(scores > floor)
    counts = np.bincount(rows, minlength=len(scores))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(scores), int(counts.max())), -np.inf, scores.dtype)
    chosen = np.zeros(values.shape, np.int64)
    values[rows, place] = scores[rows, columns]
    chosen[rows, place] = columns
    return values, chosen


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest of each row, ascending; of equal ones the first."""
    width = scores.shape[1]
    if width <= k:
        return np.broadcast_to(np.arange(width), scores.shape)
    # argpartition chooses freely among equal scores; duplicates in the bank make ties real, and
    # the result must not depend on the size of the blocks.
    chosen = np.argpartition(scores, width - k, axis=1)[:, width - k :]
    smallest = np.take_along_axis(scores, chosen[:, :1], axis=1)  # the k-th largest
    tied = np.flatnonzero((scores >= smallest).sum(axis=1) > k)
    if len(tied):
        ties = scores[tied] == smallest[tied]
        above = scores[tied] > smallest[tied]
        room = k - above.sum(axis=1, keepdims=True)
        kept = above | (ties & (np.cumsum(ties, axis=1) <= room))
        chosen[tied] = np.nonzero(kept)[1].reshape(-1, k)
    return np.sort(chosen, axis=1)


def _count(weights: np.ndarray, classes_of: np.ndarray, classes: int) -> np.ndarray:
    """Sum of each row's weights by class, (rows, classes)."""
    rows = len(weights)
    cell = np.arange(rows)[:, None] * classes + classes_of
    flat = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=rows * classes)
    return flat.reshape(rows, classes)


def _unit(features: np.ndarray, name: str) -> np.ndarray:
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError(
            f"`{name}` must be finite. Received: features with NaN or infinity. "
            "Look at the loss: training has probably diverged."
        )
    return (features / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def _check(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float, loo: bool
) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            "`train` and `test` must be features of shapes (N, D) and (M, D). Received: "
            f"shapes {train.shape} and {test.shape}."
        )
    if labels.shape != (len(train),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"`labels` must be one integer for each of the {len(train)} rows of `train`. "
            f"Received: shape {labels.shape}, dtype {labels.dtype}."
        )
    if len(train) < 1 + int(loo) or labels.min() < 0:
        raise ValueError(
            "`train` must hold a neighbour for each query, and `labels` must be >= 0. "
            f"Received: {len(train)} features, labels from {labels.min(initial=0)}."
        )
    if k < 1:
        raise ValueError(f"`k` must be >= 1. Received: k={k}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")
    if loo and len(test) != len(train):
        raise ValueError(
            "`test` must be the bank itself with `leave_one_out`. Received: "
            f"{len(test)} queries and {len(train)} bank features."
        )
