"""Linear probe: the accuracy of one linear layer on frozen features.

Features are extracted once, without augmentation, and standardised with the training set's
statistics. The free parameter is chosen on a tenth of the training set, never on the test set.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from keras_ssl.evaluation.features import labelled_features

INVERSE_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
LARGE = 100_000_000  # feature entries above which "auto" takes mini-batches
# Feature entries up to which "lbfgs" takes one thread: its products are so thin that threads gain
# little, and on cores that others use too they wait for one another (188 s in the place of 5).
THIN = 20_000_000
BATCH_SIZE, MOMENTUM = 256, 0.9


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Result of `linear_probe`; `float(result)` is the accuracy.

    Attributes:
        accuracy: share of test images whose class is predicted, in [0, 1].
        top5: share whose class is among the five likeliest; None below six classes.
        solver: "lbfgs" or "sgd".
        parameter: what was chosen: "C" (inverse penalty) or "learning_rate".
        value: the chosen value.
        validation: accuracy on the held-out tenth for each value tried.
        layer: name of the callable that gave the features.
        feature_dim: dimensions of the features.
        num_train: training images.
    """

    accuracy: float
    top5: float | None
    solver: str
    parameter: str
    value: float
    validation: dict[float, float]
    layer: str
    feature_dim: int
    num_train: int

    def __float__(self) -> float:
        return self.accuracy


def linear_probe(
    encode: Callable[[Any], Any],
    train: Any,
    test: Any,
    solver: str = "auto",
    seed: int = 0,
    grid: Sequence[float] | None = None,
    epochs: int = 100,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
) -> LinearProbe:
    """Accuracy of softmax regression on frozen, standardised features.

    The encoder is only called, never trained. Minimised over W, b, on features f:
        "lbfgs":  sum_n CE(W f_n + b, y_n) + |W|^2 / (2 C), all images at once;
        "sgd":    mean CE, batches of 256, momentum 0.9, cosine decay to 0, no penalty.
    C or the learning rate is the best on a held-out, class-balanced tenth of the training set
    (of equals, the more regularised); then the layer is fitted anew to the whole set.

    Zhang et al. 2016, https://arxiv.org/abs/1603.08511 (section 4), the pooled form; Kolesnikov
    et al. 2019, https://arxiv.org/abs/1901.09005 on short schedules. Departures: features are
    extracted once without augmentation.

    Args:
        encode: images (B, H, W, C) -> features (B, D), for instance `model.encode`.
        train: (images, labels), or a `data.Source` with labels.
        test: the same, for the accuracy that is reported.
        solver: "lbfgs", "sgd", or "auto": "sgd" above 100 million feature entries, where
            the full-batch solver would want too much memory.
        seed: of the split and of the order of mini-batches.
        grid: values tried for C or the learning rate; None takes a log grid.
        epochs: passes of "sgd".
        batch_size: images per call of `encode`.
        image_size: (height, width), needed for sources whose images differ in size.

    Returns:
        a `LinearProbe`.

    Raises:
        ValueError: an unknown solver, missing labels, fewer than two classes, or features that
            are not finite.
    """
    if solver not in ("auto", "lbfgs", "sgd"):
        raise ValueError(f'`solver` must be "auto", "lbfgs" or "sgd". Received: {solver!r}.')
    x, labels = labelled_features(encode, train, batch_size, image_size)
    x_test, test_labels = labelled_features(encode, test, batch_size, image_size, "test", train)
    x, x_test = standardise(x, x_test)
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2 or len(labels) < 4:
        raise ValueError(
            "`train` must hold at least two classes and four images. Received: "
            f"{len(classes)} classes, {len(labels)} images."
        )
    if solver == "auto":
        solver = "sgd" if x.size > LARGE else "lbfgs"
    if solver == "lbfgs":
        values = tuple(grid or INVERSE_PENALTIES)
        value, validation, scores = _lbfgs(x, y, x_test, values, seed)
    else:
        values = tuple(grid or LEARNING_RATES)
        value, validation, scores = _sgd(x, y, x_test, values, epochs, seed)
    return LinearProbe(
        accuracy=_top(scores, classes, test_labels, 1),
        top5=_top(scores, classes, test_labels, 5) if len(classes) > 5 else None,
        solver=solver,
        parameter="C" if solver == "lbfgs" else "learning_rate",
        value=value,
        validation=validation,
        layer=getattr(encode, "__name__", type(encode).__name__),
        feature_dim=x.shape[1],
        num_train=len(x),
    )


def _lbfgs(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, values: tuple, seed: int
) -> tuple[float, dict, np.ndarray]:
    """Chosen C, validation accuracies, test scores (M, classes)."""
    # Warm starts from the strongest penalty to the weakest: each solution is close to the next.
    fit, held = _split(y, seed)
    model = LogisticRegression(C=values[0], max_iter=500, warm_start=True, tol=1e-4)
    validation = {}
    threads = threadpool_limits(1, "blas") if x.size <= THIN else contextlib.nullcontext()
    with warnings.catch_warnings(), threads:
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(values) > 1 and len(np.unique(y[fit])) > 1:
            for value in values:
                model.set_params(C=value).fit(x[fit], y[fit])
                validation[value] = float(np.mean(model.predict(x[held]) == y[held]))
        value = max(values, key=lambda v: validation.get(v, 0.0))
        final = LogisticRegression(C=value, max_iter=1000, tol=1e-4).fit(x, y)
    scores = final.decision_function(x_test)
    return value, validation, np.stack([-scores, scores], 1) if scores.ndim == 1 else scores


def _sgd(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, values: tuple, epochs: int, seed: int
) -> tuple[float, dict, np.ndarray]:
    """Chosen learning rate, validation accuracies, test scores (M, classes)."""
    validation = {}
    if len(values) > 1:
        fit, held = _split(y, seed)
        classes = int(y.max()) + 1
        layers = softmax_regression(x, y, classes, values, epochs, seed, fit)
        for value, (weights, bias) in zip(values, layers, strict=True):
            scores = x[held] @ weights + bias
            finite = bool(np.isfinite(scores).all())
            validation[value] = float(np.mean(scores.argmax(1) == y[held])) if finite else 0.0
    value = max(values, key=lambda v: validation.get(v, 0.0))
    ((weights, bias),) = softmax_regression(x, y, int(y.max()) + 1, (value,), epochs, seed)
    return value, validation, x_test @ weights + bias


def softmax_regression(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    learning_rates: Sequence[float],
    epochs: int,
    seed: int = 0,
    rows: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Linear layers trained from zero by mini-batch SGD, one for each learning rate.

    All layers see the same batches, so that one product with the features serves them all.
    Batches of 256, momentum 0.9, cosine decay to 0 over all steps, no weight decay.

    Args:
        x: features (N, D), standardised.
        y: classes (N,), in 0 .. classes - 1.
        classes: number of classes; a layer of zero epochs predicts 1 / classes for each.
        learning_rates: one layer each.
        epochs: passes over the features.
        seed: of the order of the batches.
        rows: indices of the features to train on; None takes all.

    Returns:
        (weights (D, classes), bias (classes,)) for each learning rate.
    """
    rows = np.arange(len(x)) if rows is None else rows
    runs, per_epoch = len(learning_rates), max(1, len(rows) // BATCH_SIZE)
    rates = np.repeat(np.asarray(learning_rates, np.float32), classes)
    weights, bias = np.zeros((x.shape[1], len(rates)), np.float32), np.zeros_like(rates)
    velocity, bias_velocity = np.zeros_like(weights), np.zeros_like(bias)
    generator = np.random.default_rng(seed)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(epochs * per_epoch):
            if step % per_epoch == 0:
                order = generator.permutation(rows)
            batch = order[step % per_epoch * BATCH_SIZE :][:BATCH_SIZE]
            features = x[batch]
            gradient = _softmax_gradient(features @ weights + bias, y[batch], runs, classes)
            decay = np.float32(0.5 + 0.5 * np.cos(np.pi * step / (epochs * per_epoch)))
            velocity = MOMENTUM * velocity + features.T @ gradient
            bias_velocity = MOMENTUM * bias_velocity + gradient.sum(axis=0)
            weights -= decay * rates * velocity
            bias -= decay * rates * bias_velocity
    return list(zip(np.split(weights, runs, axis=1), np.split(bias, runs), strict=True))


def _softmax_gradient(scores: np.ndarray, y: np.ndarray, runs: int, classes: int) -> np.ndarray:
    """Gradient of the mean cross-entropy of each run in its scores, (B, runs * classes)."""
    scores = scores.reshape(-1, runs, classes)
    scores = np.exp(scores - scores.max(axis=2, keepdims=True))
    scores /= scores.sum(axis=2, keepdims=True)
    scores[np.arange(len(y)), :, y] -= 1.0
    return (scores / len(y)).reshape(len(y), runs * classes)


def standardise(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the mean 0 and standard deviation 1 of `x`; dimensions that are dead stay 0."""
    if not (np.isfinite(x).all() and np.isfinite(x_test).all()):
        raise ValueError(
            "`encode` must return finite features. Received: NaN or infinity among them. "
            "Look at the loss: training has probably diverged."
        )
    mean = x.mean(axis=0, dtype=np.float64)
    std = x.std(axis=0, dtype=np.float64)
    std = np.where(std > 1e-6 * max(float(std.max()), 1e-30), std, 1.0)  # dead ones stay zero
    return ((x - mean) / std).astype(np.float32), ((x_test - mean) / std).astype(np.float32)


def _split(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to fit and to hold out: every tenth image in an order of class, then chance."""
    order = np.lexsort((np.random.default_rng(seed).random(len(y)), y))
    held = order[min(5, len(y) - 1) :: 10]
    return np.setdiff1d(order, held), held


def _top(scores: np.ndarray, classes: np.ndarray, labels: np.ndarray, k: int) -> float:
    best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]
    return float(np.mean((classes[best] == labels[:, None]).any(axis=1)))
