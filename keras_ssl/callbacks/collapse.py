"""Collapse monitor: figures of a fixed set of images after each epoch, and a verdict."""

from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks.monitor import check_every, is_untrained, steps_taken
from keras_ssl.evaluation import features, monitors
from keras_ssl.evaluation.diagnosis import Verdict, collapse_figures, diagnose

MOST_IMAGES = 2048
SETTLED = 50  # steps; 0.9**50 = 0.005 of the statistics' start is left


class CollapseMonitor(keras.callbacks.Callback):
    """Watch the spread of features while training, and report signs of collapse.

    After each epoch the backbone (`model.encode`) and, where the method has one, the projector
    (`model.embed`) encode a fixed set of images in inference mode. The figures go to the logs
    under `features_...` and `embedding_...`: `std` (times sqrt(D)), `rankme`,
    `effective_rank`, `uniformity`, `dead` and, with views, `alignment`. A line is printed when
    the verdict gets worse. Put this callback before those that read the logs (`CSVLogger`).

    Wang, Isola 2020, https://arxiv.org/abs/2005.10242; Garrido et al. 2023,
    https://arxiv.org/abs/2210.02885; Chen, He 2021, https://arxiv.org/abs/2011.10566.
    Departures: alarms are relative to the untrained network, see `evaluation.diagnose`.

    Attributes:
        verdict: `Verdict` (status, message) of the last epoch; None before the first.
        history: one dict of figures per epoch, with "epoch" and "loss".
        untrained: figures before the first step; see `resume`.

    Args:
        images: (N, H, W, C), uint8 or floats in [0, 1]; the first 2,048 are used.
        views: two arrays, the same images under two draws of the augmentation, for alignment.
        every: epochs between two measurements.
        batch_size: images per call of the network.

    Raises:
        ValueError: fewer than 16 images, views of different shapes or equal views, `every` < 1.
    """

    def __init__(self, images: Any, views: Any = None, every: int = 1, batch_size: int = 256):
        super().__init__()
        self.images = np.asarray(images[:MOST_IMAGES])
        if len(self.images) < 16:
            raise ValueError(
                "`images` must hold at least 16 images, better some hundreds. "
                f"Received: {len(self.images)}."
            )
        check_every(every)
        self.views = None if views is None else _check_views(views)
        self.every, self.batch_size = every, batch_size
        self.untrained: dict[str, float] | None = None
        self.history: list[dict[str, float]] = []
        self.verdict: Verdict | None = None

    def measure(self, model: Any) -> dict[str, float]:
        """The figures of the current weights, as floats by name."""
        figures = self._space(model.encode, "features")
        if model.can("embed"):
            figures |= self._space(model.embed, "embedding")
        return figures

    def resume(self, model: Any, untrained: dict[str, float], history: list) -> None:
        """Continue from the figures of an earlier part of the run, at whose end `model` is."""
        self.set_model(model)
        self.untrained, self.history = untrained, list(history)
        if self.history:
            self.verdict = self._judge()

    def on_train_begin(self, logs=None):
        """Measure the untrained network, unless training goes on from earlier steps."""
        if self.untrained is None and is_untrained(self.model):
            self.untrained = self.measure(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Measure, write the figures to the logs and renew the verdict."""
        if epoch % self.every and self.verdict is not None:
            return
        figures = self.measure(self.model)
        row = {"epoch": epoch} | figures
        if logs is not None:
            if "loss" in logs:
                row["loss"] = float(logs["loss"])
            logs.update({k: v for k, v in figures.items() if not k.endswith("_max_rank")})
        self.history.append(row)
        before = self.verdict
        self.verdict = self._judge()
        if self.verdict.severity > (before.severity if before else 0):
            status, message = self.verdict.status.upper(), self.verdict.message
            print(f"\nCollapse monitor, epoch {epoch + 1}: {status}. {message}", flush=True)

    def _judge(self) -> Verdict:
        """The verdict, once moving statistics of batch normalisation have converged."""
        steps = steps_taken(self.model)
        if (
            steps is not None
            and steps < SETTLED
            and np.isfinite(list(self.history[-1].values())).all()
        ):
            return Verdict(
                "too early",
                f"Too early to judge: {steps} steps were taken, and moving statistics of batch "
                f"normalisation, which features depend on, need about {SETTLED} to converge.",
            )
        return diagnose(self.history, self.untrained)

    def _space(self, encode: Any, prefix: str) -> dict[str, float]:
        z = features.extract(encode, self.images, self.batch_size)
        figures = collapse_figures(z, prefix)
        if self.views is not None:
            first, second = (features.extract(encode, v, self.batch_size) for v in self.views)
            finite = np.isfinite(first).all() and np.isfinite(second).all()
            value = monitors.alignment(first, second) if finite else float("nan")
            figures[f"{prefix}_alignment"] = value
        return figures


def _check_views(views: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(view[:MOST_IMAGES]) for view in views)
    if first.shape != second.shape:
        raise ValueError(
            "`views` must be two arrays of the same images. Received: shapes "
            f"{first.shape} and {second.shape}."
        )
    if np.array_equal(first, second):
        raise ValueError(
            "`views` must differ: the two arrays are equal. Draw the augmentation twice, with "
            "different seeds; if they still agree, the augmentation does nothing."
        )
    return first, second
