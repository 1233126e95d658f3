"""Low-shot: what a linear layer learns from few labels, on several draws of them."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from threadpoolctl import threadpool_limits

from keras_ssl.evaluation.features import labelled_features
from keras_ssl.evaluation.linear_probe import INVERSE_PENALTIES, standardise

FOLDS = 5
ONE_SHOT = 0.1  # the inverse penalty where a class has one image, which cannot be held out


@dataclasses.dataclass(frozen=True)
class LowShot:
    """Result of `low_shot` for one share of the labels; `float(result)` is the mean accuracy.

    Attributes:
        fraction: share of the labels.
        num_images: labelled images of a draw.
        accuracies: on all test images, one for each draw.
    """

    fraction: float
    num_images: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the accuracies."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """Their standard deviation, with n - 1; 0 of a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0

    def __float__(self) -> float:
        return self.mean


def draw_labels(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Indices of a stratified draw: the same share of each class, rounded to whole images.

    Of one seed, a larger share holds all images of a smaller.

    Args:
        labels: integers (N,).
        fraction: share, in (0, 1].
        seed: of the draw.

    Returns:
        increasing indices.

    Raises:
        ValueError: `fraction` is out of range, or so small that a class would have no image.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must lie in (0, 1]. Received: fraction={fraction}.")
    generator, chosen = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(members))
        if not count:
            raise ValueError(
                f"`fraction` must leave each class an image. Received: fraction={fraction}, which "
                f"of the {len(members)} images of class {label} is none. Take at least "
                f"{0.51 / len(members):.2g}, or more images."
            )
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def low_shot(
    encode: Callable[[Any], Any],
    train: Any,
    test: Any,
    fractions: Sequence[float] = (0.01, 0.1),
    draws: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
) -> list[LowShot]:
    """Accuracy of a linear layer on frozen features, learnt from a share of the labels.

    For each share and draw, logistic regression with an L2 penalty (as `linear_probe`'s "lbfgs")
    on the drawn features, standardised by the statistics of all training images, which need no
    labels. C is the best in a stratified cross-validation of up to five folds within the draw: no
    other label is seen.

    Args:
        encode: images (B, H, W, C) -> features (B, D), for instance `model.encode`.
        train: (images, labels), or a `data.Source` with labels; the labels are drawn from it.
        test: the same, for the accuracy that is reported.
        fractions: shares of the labels, see `draw_labels`.
        draws: of each share, with the seeds seed, seed + 1, ...
        seed: of the first draw.
        batch_size: images per call of `encode`.
        image_size: (height, width), needed for sources whose images differ in size.

    Returns:
        a `LowShot` for each share.

    Raises:
        ValueError: labels are missing, see `draw_labels`, or `draws` < 1.
    """
    if draws < 1:
        raise ValueError(f"`draws` must be >= 1. Received: draws={draws}.")
    x, labels = labelled_features(encode, train, batch_size, image_size)
    seeds = range(seed, seed + draws)
    chosen = {f: [draw_labels(labels, f, s) for s in seeds] for f in fractions}
    x_test, test_labels = labelled_features(encode, test, batch_size, image_size, "test", train)
    x, x_test = standardise(x, x_test)
    results = []
    for fraction, picked in chosen.items():
        accuracies = [
            float(np.mean(_predict(x[rows], labels[rows], x_test, s) == test_labels))
            for rows, s in zip(picked, seeds)
        ]
        results.append(LowShot(float(fraction), len(picked[0]), tuple(accuracies)))
    return results


def _predict(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, seed: int) -> np.ndarray:
    folds = min(FOLDS, int(np.unique(y, return_counts=True)[1].min()))
    best = ONE_SHOT
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):  # the products are thin
        warnings.simplefilter("ignore", ConvergenceWarning)
        if folds > 1:
            parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
            scores = {c: cross_val_score(_model(c), x, y, cv=parts) for c in INVERSE_PENALTIES}
            best = max(scores, key=lambda c: scores[c].mean())  # of equals the more regularised
        return _model(best).fit(x, y).predict(x_test)


def _model(inverse_penalty: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_penalty, max_iter=500, tol=1e-4)
