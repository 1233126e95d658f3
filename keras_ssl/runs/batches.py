"""`batch_size="auto"`: the largest batch that fits in memory, found by trying before the run."""

import contextlib
import dataclasses
import gc
import random
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl import distribute
from keras_ssl.callbacks import TrainingDiverged
from keras_ssl.engine import inputs
from keras_ssl.engine import optimizer as frame
from keras_ssl.runs.forgetting import forgetting
from keras_ssl.runs.memory import Memory

AUTO = "auto"
_START = 8  # images of the first trial: few enough to be safe, and a start to extrapolate from
_LEAST, _MOST = 32, 4096  # whatever the number of images
_STEPS = 16  # of the optimizer, the fewest in an epoch
_SHARE = 0.8  # of the memory that there is; the rest is for what a long run takes besides
_TRIED = 2  # batches a trial: while the second is trained on the next is made
_ACCUMULATION = (
    "gradient_accumulation_steps averages the gradients of several batches, in the place of a "
    "larger one; what is computed over a batch (statistics of batch normalisation, and negatives "
    "or covariances where the loss has them) stays that of one."
)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        size: images in the batch.
        took: what that took of the fullest memory, as text.
        why: why it is not more, in a clause.
    """

    size: int
    took: str
    why: str


def check(batch_size: Any, strategy: Any) -> None:
    """Raise where `batch_size` is text other than "auto", or "auto" for several processes."""
    if isinstance(batch_size, str) and batch_size != AUTO:
        raise ValueError(
            "`batch_size` must be a positive integer or 'auto'. Received: "
            f"batch_size={batch_size!r}."
        )
    together = distribute.is_multi_worker(strategy) or (
        strategy == "auto" and distribute.processes() > 1
    )
    if batch_size == AUTO and together:
        raise ValueError(
            "`batch_size` must be a number where several processes train together, for each would "
            "find its own. Received: batch_size='auto'. Find it on one machine without TF_CONFIG; "
            "the global batch is that times the number of machines."
        )


def limits(images: int, accumulation: int | None = None) -> tuple[int, int]:
    """The most images that a batch should have, and the most that it can have.

    It should leave an epoch 16 steps of the optimizer, but may always have 32 images. It can have
    4096, or all images where there are fewer.

    Args:
        images: of an epoch.
        accumulation: batches to a step of the optimizer.
    """
    most = min(_MOST, images)
    return min(most, max(_LEAST, images // (_STEPS * (accumulation or 1)))), most


def sizes(most: int, devices: int = 1) -> list[int]:
    """The batches to try, each twice the one before, that `devices` can share evenly."""
    doubled = [devices << k for k in range(_MOST.bit_length()) if devices << k <= most]
    return [size for size in doubled if size >= _START] or doubled[-1:] or [devices]


def expected(used: list) -> float:
    """The memory that twice the batch takes, from what it and its halves took, smallest first.

    With a + b n + c n^2 for a batch of n (similarities of all pairs grow with the square), two
    increments d and D give the next one, 6 D - 8 d; it is kept between 2 D, of linear growth, and
    4 D, of quadratic growth. Where they follow no such curve, as long as the peak of something else
    hides them, it is 4 D, and all that was used so far if that is more.
    """
    last = used[-1] - used[-2] if len(used) > 1 else 0
    before = used[-2] - used[-3] if len(used) > 2 else 0
    if 0 < last <= 4 * before:
        return used[-1] + min(max(6 * last - 8 * before, 2 * last), 4 * last)
    return used[-1] + max(4 * last, used[-1])


def find(
    images: int,
    attempt: Callable[[int], None],
    memory: Memory,
    *,
    devices: int = 1,
    accumulation: int | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> Found:
    """The largest batch within `limits` that takes at most 80 % of the memory.

    One that might take more is not tried. One that the method refuses is passed over, and `limits`
    do not hold for the first that it takes.

    Args:
        images: of an epoch.
        attempt: trains on a few batches of a size.
        memory: tells what that took.
        devices: that share a batch evenly.
        accumulation: batches to a step of the optimizer.
        say: called with a sentence on each trial.

    Raises:
        ValueError: if the method refuses all sizes.
        RuntimeError: if there is no memory for the smallest.
    """
    enough, most = limits(images, accumulation)
    best, refused = None, ""
    used: dict[str, list[int]] = {}
    for size in sizes(most, devices):
        if best is not None and size > enough:
            break
        forecast = ""
        if best is not None:
            rooms = {name: reading.room for name, reading in memory.read().items()}
            share, coming = _fullest({n: (expected(u), rooms[n]) for n, u in used.items()})
            if share > _SHARE:
                why = f"{size:,} might take {coming}, more than {_SHARE:.0%}"
                return dataclasses.replace(best, why=why)
            forecast = f"; expected were {coming.partition(' of ')[0]}"
        memory.forget()
        try:
            fits = _fits(attempt, size)
        except ValueError as error:  # such as a batch that the method cannot cut into its slices
            if best is not None:
                return dataclasses.replace(best, why=f"{size:,} cannot be used: {error}")
            if str(error) == refused:  # the same for two sizes: it is of something else
                raise
            refused = str(error)
            continue
        readings = memory.read()
        share, took = _fullest(readings)
        say(f"Batches of {size:,}: {took}{forecast}.")
        if not fits and best is None:
            raise RuntimeError(
                f"There is no memory for the smallest batch that can be tried, {size} images. Use "
                "a smaller `image_size` or backbone."
            )
        if not fits or share > _SHARE:
            why = f"{size:,} took {took}" if fits else f"there is no memory for {size:,}"
            return dataclasses.replace(best or Found(size, took, ""), why=why)
        best = Found(size, took, _end(2 * size, images))
        for name, reading in readings.items():
            used.setdefault(name, []).append(reading.used)
    if best is None:
        raise ValueError(refused)
    return best


def _fullest(readings):
    """The share of the fullest memory that is in use, and the same as text."""
    shares = {name: used / max(room, 1) for name, (used, room) in readings.items()}
    name = max(shares, key=shares.get)
    used, room = readings[name]
    return shares[name], f"{used / 1e9:.2f} of {room / 1e9:.2f} GB of {name}"


def resolve(
    known: Any,
    make: Callable[[], Any],
    source: Any,
    say: Callable[[str], Any],
    *,
    strategy: Any,
    seed: int,
    epochs: int,
    optimizer: str,
    accumulation: int | None,
    **changes: float | None,
) -> int:
    """The number that "auto" stands for, which `say` is told, with why.

    It takes what an earlier part of the run has recorded; else it trains throw-away models on a few
    batches each. Afterwards all randomness is as before.

    Args:
        known: the batch size with which the run was begun; None for a new one.
        make: makes a model as the run will, of weights that nobody else has.
        source: the images of the run.
        say: called with sentences.
        strategy: of the run, as the arguments that follow.
        seed: of `fit`.
        epochs: of the whole run.
        optimizer: choice of the default optimizer.
        accumulation: batches to a step of the optimizer.
        **changes: as `engine.optimizer.compile_default`.
    """
    if isinstance(known, int) and known > 0:
        say(f"Batch size: {known:,} images, with which the run was begun.")
        return known
    with distribute.scope(strategy):
        devices = distribute.parallel_devices()
    notes = {}

    def compiled(model, size):
        steps = source.size // size
        frame.compile_default(model, epochs, steps, size, accumulation, optimizer, **changes)
        return frame.peak_rate(model)

    def attempt(size):
        model, usual = make(), inputs.DEFAULT_BATCH // (accumulation or 1)
        comparable = 0 < usual != size and source.size >= inputs.DEFAULT_BATCH
        at_usual = compiled(model, usual) if comparable else None
        notes[size] = _on_rate(compiled(model, size), at_usual)
        with warnings.catch_warnings(action="ignore"):  # of sizes that may not be taken
            model.fit(
                source, batch_size=size, epochs=epochs, seed=seed, verbose=0, callbacks=[_Stop()]
            )

    options = {"devices": devices, "accumulation": accumulation, "say": say}
    with _randomness_kept(seed):
        found = find(source.size, attempt, Memory(), **options)
        gc.collect()  # what a failed attempt has left
    say(f"Batch size: {found.size:,} images, which take {found.took}; {found.why}.")
    say(notes[found.size])
    if devices == 1:
        say(_ACCUMULATION)
    return found.size


class _Stop(keras.callbacks.Callback):
    """Ends training after a few batches."""

    def __init__(self):
        super().__init__()
        self._done = 0

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        if self._done >= _TRIED:
            self.model.stop_training = True


def _fits(attempt, size):
    """Whether there was memory; an error is not passed on, as it holds on to the network."""
    try:
        with forgetting(), contextlib.suppress(TrainingDiverged):
            attempt(size)
    except Exception as error:
        if not distribute.is_out_of_memory(error):
            raise
        return False
    return True


@contextlib.contextmanager
def _randomness_kept(seed):
    """After it all is as after `keras.utils.set_random_seed(seed)` and what was drawn since."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        keras.utils.set_random_seed(seed)  # for TensorFlow's own
        random.setstate(states[0])
        np.random.set_state(states[1])


def _end(size, images):
    """Why a batch of `size`, twice one that fits, is not tried."""
    if size > _MOST:
        return f"more than {_MOST:,} are not tried"
    return f"with {size:,} an epoch of {images:,} images would have fewer than {_STEPS} steps"


def _on_rate(rate, usual):
    """What the size means for the default optimizer, whose peak rate is `usual` at 256 images."""
    if usual in (None, rate):
        fixed = ", which does not depend on the batch" if usual else ""
        return f"Peak learning rate: {rate}{fixed}."
    return f"Peak learning rate: {rate}; with batches of {inputs.DEFAULT_BATCH} it is {usual}."
