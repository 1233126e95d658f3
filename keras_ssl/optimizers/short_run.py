"""Settings for runs that are too short for those of the papers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_ssl.optimizers.adamw import AdamW
from keras_ssl.optimizers.schedules import WarmupCosine, WarmupDrops

_WARMUP = 20  # the warm-up is one part in so many of a short run


@dataclasses.dataclass(frozen=True)
class ShortRun:
    """Adam, for runs with too few steps for a paper's optimizer.

    Papers train for 10^5 steps and more; within a few hundred their LARS and SGD hardly move a
    network. Adam is warmed up over a twentieth of the run, then follows half a cosine to zero, or
    stays at its peak where a method asks for that. What it gives is in `benchmarks/RESULTS.md`,
    "Five lines".

    Attributes:
        below: runs of fewer optimizer steps than this are short. The methods' 10,000 is as far as
            was compared: at 190, 760, 2,280 and 9,672 steps SimCLR is ahead with Adam, by 2.3, 3.9,
            3.4 and 3.0 points (`benchmarks/RESULTS.md`, "The paper's optimizer or Adam").
        learning_rate: Adam's peak, for any batch size.
        constant: whether the rate stays at its peak: for layers that are made anew in each epoch,
            the last ones included.
        weight_decay: first and last value of AdamW's, along a cosine, not on biases and gains; None
            for Adam, without.
        batch_size: images in a batch where none is given; None for 256. For networks that need many
            steps more than large batches.
    """

    below: int
    learning_rate: float
    constant: bool = False
    weight_decay: tuple[float, float] | None = None
    batch_size: int | None = None

    def optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """Adam with its schedules for a run of so many steps."""
        warmup = total_steps // _WARMUP
        if self.constant:
            rate = WarmupDrops(self.learning_rate, (), warmup_steps=warmup)
        else:
            rate = WarmupCosine(self.learning_rate, total_steps, warmup)
        if self.weight_decay is None:
            return keras.optimizers.Adam(rate)
        first, last = self.weight_decay
        return AdamW(rate, keras.optimizers.schedules.CosineDecay(first, total_steps, last / first))


def by_epochs(epochs: Any, values: Mapping[int, float]) -> Any:
    """The value for a run of so many epochs, where a paper has settings by the length of a run.

    Args:
        epochs: length of the run, a number or a scalar tensor; 0 where unknown.
        values: value by the number of epochs from which on it holds; the first key is 0.

    Returns:
        float32 scalar tensor; the last value where the length is unknown.
    """
    epochs = ops.cast(epochs, "float32")
    unknown, result = epochs <= 0, 0.0
    for least, value in values.items():
        result = ops.where(ops.logical_or(unknown, epochs >= least), value, result)
    return ops.cast(result, "float32")
