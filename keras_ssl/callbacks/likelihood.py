"""Bits per dimension while training: does a model get better at images it has not seen?"""

from typing import Any

import numpy as np

from keras_ssl.callbacks.monitor import FigureMonitor
from keras_ssl.evaluation import likelihood

COLUMNS = {"dimension": "bits_per_dim", "pixel": "bits_per_pixel"}


class LikelihoodMonitor(FigureMonitor):
    """Write the mean code length of held-out images under `model.log_prob`, as "bits_per_dim".

    Or as "bits_per_pixel", for models of tokens, which are pixels (`likelihood_kind`).

    For models that `can("log_prob")`. When it rises while the loss still falls, the model overfits.
    Put this callback before those that read the logs (`CSVLogger`). The figure is
    `evaluation.bits_per_dim`.

    Attributes:
        column: name of the figure in logs and history.
        untrained: figure before the first step; None when training goes on from a checkpoint.
        history: {"epoch", "bits_per_dim"} for each epoch that was measured.

    Args:
        images: (N, H, W, C), uint8 or floats in [0, 1], that training does not see.
        every: epochs between two measurements; the first and the last epoch are always measured.
        batch_size: images per call of `log_prob`.
        per: "dimension" or "pixel".

    Raises:
        ValueError: if there is no image, or `every` < 1.
    """

    def __init__(self, images: Any, every: int = 1, batch_size: int = 256, per: str = "dimension"):
        super().__init__(every)
        self.per, self.column = per, COLUMNS[per]
        self.images = np.asarray(images)
        if not len(self.images):
            raise ValueError("`images` must hold at least one image. Received none.")
        self.batch_size = batch_size

    def measure(self, model: Any) -> float:
        """Bits per dimension, or pixel, under the current weights."""
        return likelihood.bits_per_dim(model.log_prob, self.images, self.batch_size, self.per)[0]
