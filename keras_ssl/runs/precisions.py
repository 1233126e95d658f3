"""The number format of a run."""

import contextlib
import time

import keras
import numpy as np
from keras import ops

CHOICES = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_LEAST = 1.3  # times that bfloat16 must be faster: below it rounding is not worth the time
_SIDE, _TRIALS = 1024, 5


def resolve(
    precision: str, recorded: str | None = None, reason: str | None = None
) -> tuple[str, str]:
    """The Keras policy for one of `CHOICES`, and a sentence that says why.

    "auto" takes what an earlier part of the run has recorded, so that it ends in the format in
    which it began; else mixed_bfloat16 where this device multiplies matrices in it at least 1.3
    times as fast as in float32, and float32 elsewhere.

    Args:
        precision: one of `CHOICES`.
        recorded: the format in which the run was begun; None for a new one.
        reason: why "auto" must be float32; None where it may measure.

    Raises:
        ValueError: if `precision` is not one of `CHOICES`.
    """
    if precision not in CHOICES:
        raise ValueError(
            f"`precision` must be one of {CHOICES}. Received: precision={precision!r}."
        )
    if precision != "auto":
        return precision, f"Number format: {precision}."
    if recorded in CHOICES[1:]:
        return recorded, f"Number format: {recorded}, in which the run was begun."
    if reason:
        return "float32", f"Number format: float32, as {reason}."
    factor = speedup()
    taken = "mixed_bfloat16" if factor >= _LEAST else "float32"
    return taken, (
        f"Number format: {taken}; this device multiplies matrices {factor:.1f} times as fast in "
        f"bfloat16 as in float32, and {_LEAST} times is the least for bfloat16."
    )


def speedup() -> float:
    """Time of a matrix product in float32 over that in bfloat16, on the default device."""
    values = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), np.float32)
    seconds = {}
    for dtype in ("float32", "bfloat16"):
        x = ops.cast(values, dtype)
        trials = []
        for _ in range(_TRIALS + 1):
            start = time.perf_counter()
            ops.convert_to_numpy(ops.matmul(x, x)[0, :1])  # waits until the device has finished
            trials.append(time.perf_counter() - start)
        seconds[dtype] = min(trials[1:])  # the first includes the start; others disturb upwards
    return seconds["float32"] / seconds["bfloat16"]


@contextlib.contextmanager
def policy(name: str):
    """Within it, new layers have the policy `name`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def clear_session() -> None:
    """Forget the networks of the last run; `keras.backend.clear_session` forgets the format too."""
    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)
