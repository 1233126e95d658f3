"""The base of monitors that measure one figure between epochs."""

from typing import Any

import keras


class FigureMonitor(keras.callbacks.Callback):
    """Measure one figure of the model every few epochs; subclasses define `column` and `measure`.

    Attributes:
        column: name of the figure in logs and history.
        untrained: figure before the first step; None when training goes on from a checkpoint.
        history: {"epoch", column} for each epoch that was measured.

    Args:
        every: epochs between two measurements; the first and the last epoch are always measured.

    Raises:
        ValueError: if `every` < 1.
    """

    column: str

    def __init__(self, every: int = 1):
        super().__init__()
        check_every(every)
        self.every = every
        self.untrained: float | None = None
        self.history: list[dict[str, float]] = []
        self._first = True

    def measure(self, model: Any) -> float:
        """The figure of the current weights."""
        raise NotImplementedError(f"{type(self).__name__} must define `measure`.")

    def on_train_begin(self, logs=None):
        """Measure the untrained network, unless training goes on from earlier steps."""
        self._first = True
        if self.untrained is None and is_untrained(self.model):
            self.untrained = self.measure(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Measure, and write the figure to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        # The first epoch of a `fit` that goes on at a later one, too: `CSVLogger` takes its columns
        # from the first logs it sees.
        if epoch % self.every and not (self._first or last):
            return
        self._first = False
        figure = self.measure(self.model)
        self.history.append({"epoch": epoch, self.column: figure})
        if logs is not None:
            logs[self.column] = figure


def check_every(every: int) -> None:
    """Raise unless `every`, epochs between two measurements, is positive."""
    if every < 1:
        raise ValueError(f"`every` must be >= 1. Received: every={every}.")


def is_untrained(model: Any) -> bool:
    """Whether the optimizer of a model has not taken a step yet."""
    return not steps_taken(model)


def steps_taken(model: Any) -> int | None:
    """Steps that the optimizer of a model has taken; None without an optimizer."""
    iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
    return None if iterations is None else int(iterations.numpy())  # works if mirrored, too
