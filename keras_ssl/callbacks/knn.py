"""kNN accuracy while training: the quickest sign of whether features improve."""

from typing import Any

import numpy as np

from keras_ssl.callbacks.monitor import FigureMonitor
from keras_ssl.evaluation import features, knn


class KNNMonitor(FigureMonitor):
    """Write the kNN accuracy of `model.encode` to the logs, as "knn".

    Labels are used for this figure alone; images whose label is negative are left out. A fixed,
    class-balanced part of the images is used, in inference mode. Put this callback before
    those that read the logs (`CSVLogger`).

    Wu et al. 2018, https://arxiv.org/abs/1805.01978 (kNN protocol, k = 20 for small banks).
    Departures: the bank is encoded anew with the current weights each time.

    Attributes:
        column: name of the figure in logs and history.
        untrained: accuracy before the first step; None when training goes on from a checkpoint.
        history: {"epoch", "knn"} for each epoch that was measured.

    Args:
        train: the bank: (images, labels), or a `data.Source` with labels.
        test: the queries, in the same forms.
        every: epochs between two measurements; the first and the last epoch are always measured.
        k: neighbours that vote.
        temperature: > 0; the paper's 0.07.
        batch_size: images per call of `encode`.
        max_train: most images in the bank.
        max_test: most queries.
        image_size: (height, width), needed for sources whose images differ in size.

    Raises:
        ValueError: labels are missing, or `every` < 1.
    """

    column = "knn"

    def __init__(
        self,
        train: Any,
        test: Any,
        every: int = 1,
        k: int = 20,
        temperature: float = 0.07,
        batch_size: int = 256,
        max_train: int = 5000,
        max_test: int = 2000,
        image_size: tuple[int, int] | None = None,
    ):
        super().__init__(every)
        self.train = _part(*features.labelled(train, image_size), max_train)
        self.test = _part(*features.labelled(test, image_size, "test", classes_of=train), max_test)
        self.k, self.temperature, self.batch_size = k, temperature, batch_size

    def measure(self, model: Any) -> float:
        """Accuracy in [0, 1] of the current weights; NaN if a feature is not finite."""
        bank = features.extract(model.encode, self.train[0], self.batch_size)
        queries = features.extract(model.encode, self.test[0], self.batch_size)
        if not (np.isfinite(bank).all() and np.isfinite(queries).all()):
            return float("nan")
        predicted = knn.weighted_knn(bank, self.train[1], queries, self.k, self.temperature)
        return float(np.mean(predicted == self.test[1]))


def _part(images: Any, labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` labelled images, classes as equal as they come, the same every time."""
    if labels.min(initial=0) < 0:  # images without a label
        kept = np.flatnonzero(labels >= 0)
        images, labels = np.asarray(images)[kept], labels[kept]
    if not len(labels):
        raise ValueError("`train` and `test` must hold labelled images. Received none with >= 0.")
    if len(labels) <= most:
        return images, labels
    draw = np.random.default_rng(0).random(len(labels))
    order = np.lexsort((draw, labels))
    place = np.empty(len(labels), np.int64)  # rank of each image within its class
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    chosen = np.sort(np.lexsort((draw, place))[:most])
    return np.asarray(images)[chosen], labels[chosen]
