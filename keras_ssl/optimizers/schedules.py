"""Schedules as functions of the step, which counts optimizer updates from 0."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from 0 to its peak, then falls along half a cosine.

        t < W:  peak * t / W
        t >= W: floor + (peak - floor) * (1 + cos(pi * min(1, (t - W) / (T - W)))) / 2

    with T `total_steps` and W `warmup_steps`. It is 0 at t = 0, the peak at t = W, the floor from t
    = T on. Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts; warm-up
    as in SimCLR, section 2.3.

    Args:
        peak: the largest learning rate, > 0.
        total_steps: T, steps of the whole run, warm-up included, >= 1.
        warmup_steps: W, in [0, T); SimCLR: 10 epochs' worth. With 0 the run starts at the peak.
        floor: learning rate at the end, in [0, peak].

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.0):
        if not peak > 0:
            raise ValueError(f"`peak` must be > 0. Received: peak={peak}.")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "`warmup_steps` must be >= 0 and below `total_steps`. Received: "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}. "
                "Train longer or shorten the warm-up."
            )
        if not 0 <= floor <= peak:
            raise ValueError(f"`floor` must be in [0, peak]. Received: floor={floor}, peak={peak}.")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.floor = floor

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, a float32 tensor of the shape of `step`."""
        step = ops.cast(step, "float32")
        rising = self.peak * step / max(1, self.warmup_steps)
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        falling = self.floor + (self.peak - self.floor) * _half_cosine(progress)
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("peak", "total_steps", "warmup_steps", "floor")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("keras_ssl")
class WarmupDrops(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from 0 to its peak, and later falls in jumps.

        t < W:  peak * t / W
        t >= W: peak * factor^(number of drops at or before t)

    Args:
        peak: the largest learning rate, > 0.
        drops: steps at which the rate is multiplied by `factor`.
        factor: in (0, 1); 0.1 in most papers.
        warmup_steps: W, >= 0; with 0 the run starts at the peak.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self, peak: float, drops: Sequence[int], factor: float = 0.1, warmup_steps: int = 0
    ):
        if not peak > 0 or not 0 < factor < 1 or warmup_steps < 0:
            raise ValueError(
                "`peak` must be > 0, `factor` in (0, 1) and `warmup_steps` >= 0. Received: "
                f"peak={peak}, factor={factor}, warmup_steps={warmup_steps}."
            )
        self.peak, self.drops, self.factor = peak, tuple(drops), factor
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, a float32 scalar tensor."""
        step = ops.cast(step, "float32")
        passed = sum(ops.cast(step >= drop, "float32") for drop in self.drops)
        rising = self.peak * step / max(1, self.warmup_steps)
        return ops.where(step < self.warmup_steps, rising, self.peak * self.factor**passed)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {n: getattr(self, n) for n in ("peak", "drops", "factor", "warmup_steps")}


@keras.saving.register_keras_serializable("keras_ssl")
class HoldExponential(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that stays at its peak, then falls exponentially.

        t < H:  peak
        t >= H: peak * factor^min(1, (t - H) / (T - H))

    with T `total_steps` and H `hold_steps`: `factor * peak` from t = T on. Donahue et al. 2017
    (BiGAN), https://arxiv.org/abs/1605.09782, with H = T / 2. Departures from the authors' code: it
    falls at every step (theirs: at every epoch).

    Args:
        peak: the largest learning rate, > 0.
        total_steps: T, steps of the whole run, >= 1.
        hold_steps: H, in [0, T).
        factor: share of the peak that is left at the end, in (0, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, peak: float, total_steps: int, hold_steps: int, factor: float = 0.01):
        if not peak > 0 or not 0 < factor <= 1:
            raise ValueError(
                "`peak` must be > 0 and `factor` in (0, 1]. Received: "
                f"peak={peak}, factor={factor}."
            )
        if not 0 <= hold_steps < total_steps:
            raise ValueError(
                "`hold_steps` must be >= 0 and below `total_steps`. Received: "
                f"hold_steps={hold_steps}, total_steps={total_steps}. Train longer or hold shorter."
            )
        self.peak, self.factor = peak, factor
        self.total_steps, self.hold_steps = total_steps, hold_steps

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, a float32 tensor of the shape of `step`."""
        step = ops.cast(step, "float32")
        progress = (step - self.hold_steps) / (self.total_steps - self.hold_steps)
        return self.peak * self.factor ** ops.clip(progress, 0.0, 1.0)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("peak", "total_steps", "hold_steps", "factor")
        return {name: getattr(self, name) for name in names}


def cosine_momentum(step: Any, total_steps: int, base: float = 0.996) -> Any:
    """Momentum of a teacher that follows its student ever more slowly.

        m(t) = 1 - (1 - base) * (1 + cos(pi * min(1, t / T))) / 2

    from `base` at t = 0 to 1 at t = T = `total_steps`; m is the share of the teacher kept at each
    step. Grill et al. 2020 (BYOL), https://arxiv.org/abs/2006.07733, section 3.3.

    Args:
        step: t, a number or a tensor of any shape.
        total_steps: T, >= 1.
        base: momentum at the start, in [0, 1]; a number or a scalar tensor.

    Returns:
        float32 tensor of the shape of `step`, in [base, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """
    if not total_steps >= 1:
        raise ValueError(f"`total_steps` must be >= 1. Received: total_steps={total_steps}.")
    if isinstance(base, int | float) and not 0 <= base <= 1:
        raise ValueError(f"`base` must be in [0, 1]. Received: base={base}.")
    return 1.0 - (1.0 - base) * _half_cosine(ops.cast(step, "float32") / total_steps)


def _half_cosine(progress: Any) -> Any:
    """1 at progress 0, 0 from progress 1 on."""
    return 0.5 * (1.0 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
