"""Bits per dimension while training: whether a model gets better at images it has not seen."""

from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks.knn import is_untrained
from keras_ssl.evaluation import likelihood


class LikelihoodMonitor(keras.callbacks.Callback):
    """Write the mean code length of held-out images under `model.log_prob`, as "bits_per_dim".

    For methods with a likelihood, see `evaluation.has_likelihood`. When it rises while the loss
    still falls, the model has begun to learn its training images by heart. Put this callback before
    those that read the logs (`CSVLogger`). The figure: `evaluation.bits_per_dim`.

    Attributes:
        column: name of the figure in logs and history.
        untrained: figure before the first step; None when training goes on from a checkpoint.
        history: {"epoch", "bits_per_dim"} for each epoch that was measured.

    Args:
        images: (N, H, W, C), uint8 or floats in [0, 1], that training does not see.
        every: epochs between two measurements; the first and the last epoch are always measured.
        batch_size: images per call of `log_prob`.

    Raises:
        ValueError: if there is no image, or `every` < 1.
    """

    column = "bits_per_dim"

    def __init__(self, images: Any, every: int = 1, batch_size: int = 256):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be >= 1. Received: every={every}.")
        self.images = np.asarray(images)
        if not len(self.images):
            raise ValueError("`images` must hold at least one image. Received none.")
        self.every, self.batch_size = every, batch_size
        self.untrained: float | None = None
        self.history: list[dict[str, float]] = []
        self._first = True

    def measure(self, model: Any) -> float:
        """Bits per dimension under the current weights."""
        return likelihood.bits_per_dim(model.log_prob, self.images, self.batch_size)[0]

    def on_train_begin(self, logs=None):
        """Measure the untrained network, unless training goes on from earlier steps."""
        self._first = True
        if self.untrained is None and is_untrained(self.model):
            self.untrained = self.measure(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Measure, and write "bits_per_dim" to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if epoch % self.every and not (self._first or last):
            return
        self._first = False
        bits = self.measure(self.model)
        self.history.append({"epoch": epoch, self.column: bits})
        if logs is not None:
            logs[self.column] = bits
