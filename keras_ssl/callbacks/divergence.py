"""Stop when the loss is no longer a number, and say at which step that was."""

import math
from collections.abc import Callable

import keras
import numpy as np

_REMEDY = (
    "Lower the learning rate, lengthen its warm-up, or, with mixed_float16, use mixed_bfloat16; "
    "images with NaN would have been refused."
)


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the weights from that step on are worthless."""


class DivergenceGuard(keras.callbacks.Callback):
    """Ends training at the first step whose loss is not finite, with `TrainingDiverged`.

    Put it before callbacks that save, so that a bad epoch is never saved. `fit` shows running
    means of the losses, and a mean turns NaN with its first NaN, so the first bad mean names the
    step. Checks run beside the training step and do not wait for it.

    Args:
        advice: function of no arguments that gives a sentence for the end of the message: what is
            kept and where.
    """

    async_safe = True  # Keras may call on_train_batch_end from several threads, in any order

    def __init__(self, advice: Callable[[], str] | None = None):
        super().__init__()
        self._advice = advice or (lambda: "")
        self._bad_step = None

    def on_train_begin(self, logs=None):
        """Forget an earlier run."""
        self._bad_step = None

    def on_train_batch_end(self, batch, logs=None):
        """Note the first step of this epoch whose mean loss is not finite."""
        if not all(math.isfinite(value) for value in (logs or {}).values()):
            self._bad_step = batch if self._bad_step is None else min(batch, self._bad_step)
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Raise if a step of this epoch was bad, or left weights that are not finite."""
        if self._bad_step is not None:
            raise TrainingDiverged(
                f"The loss became NaN or infinite at step {self._bad_step + 1} of epoch "
                f"{epoch + 1}. {_REMEDY} {self._advice()}".rstrip()
            )
        # The last step's loss was finite, but its update may not have been.
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise TrainingDiverged(
                f"Weights became NaN or infinite in the last step of epoch {epoch + 1}. "
                f"{_REMEDY} {self._advice()}".rstrip()
            )
