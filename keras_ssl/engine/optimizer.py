"""A model's optimizer: make, build, check, clip, count its steps."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_ssl import distribute, optimizers


def strategy(model):
    """The `tf.distribute.Strategy` that the model was made under; None on other backends."""
    return getattr(model, "distribute_strategy", None)


def scope(model):
    """The scope of the model's strategy, in which its optimizer must be made too."""
    own = strategy(model)
    return own.scope() if own is not None else contextlib.nullcontext()


_HIGHEST_RATE = 1e4  # LARS of large batches takes some tens
# By the length of the run; the paper's at any length; one that keeps what weights hold already.
CHOICES = ("auto", "paper", "gentle")
GENTLE_RATE = 3e-4


def prepare(model, epochs, batches, say):
    """Compile where the user has not, make the optimizer's variables, and check it."""
    if not model.compiled:
        say(compile_default(model, epochs, batches.steps, batches.batch_size))
    build(model)
    check(model)


def compile_default(
    model, epochs, steps, batch_size, accumulation=None, choice="auto", factors=None, **changes
):
    """Compile with the method's default optimizer for a run of `epochs` times `steps` batches.

    Args:
        model: an `SSLModel`.
        epochs: of the whole run.
        steps: batches an epoch.
        batch_size: images in the global batch.
        accumulation: batches whose gradients are averaged before a step; None for one.
        choice: one of `CHOICES`.
        factors: of the "gentle" optimizer's rate, one for each trainable variable; None for 1.
        **changes: `learning_rate` and `weight_decay` in the place of its own, where not None.

    Returns:
        A sentence that says which optimizer was taken, and why.

    Raises:
        ValueError: if `steps` is unknown.
    """
    if steps is None:
        raise ValueError(
            "`steps_per_epoch` is needed for the schedule: the dataset does not tell its length."
        )
    batches = accumulation or 1
    _check_accumulation(batches, epochs * steps)
    model.steps_per_epoch.assign(max(1, steps // batches))  # for defaults that count in epochs
    total = max(1, epochs * steps // batches)
    with scope(model):
        if choice == "gentle":
            optimizer = _gentle(total, factors)
        else:
            make = model.paper_optimizer if choice == "paper" else model.default_optimizer
            optimizer = make(total, batch_size * batches)
        optimizer = optimizers.adjusted(optimizer, **changes)
        optimizer.gradient_accumulation_steps = accumulation
        model.compile(optimizer)
    return _sentence(model, total, batch_size * batches, choice, changes)


def _gentle(total_steps, factors):
    """AdamW, warmed up over a tenth of the run, then half a cosine to zero; no decay."""
    schedule = optimizers.WarmupCosine(GENTLE_RATE, total_steps, total_steps // 10)
    return optimizers.AdamW(schedule, factors=factors)


def _sentence(model, total_steps, batch_size, choice, changes):
    name, short = type(optimizers.inner(model.optimizer)).__name__, model.short_run
    run = f"a run of {total_steps} steps"
    if short is not None and short.batch_size == batch_size:
        run += f" of {batch_size} images"
    taken = f"{type(model).__name__}: {name} for {run}"
    given = [f"{key} {value:g}" for key, value in changes.items() if value is not None]
    yours = f" Yours: {', '.join(given)}." if given else ""
    if choice == "gentle":
        return (
            f"{taken}, with a peak rate of {GENTLE_RATE:g}: small, so that what the weights hold "
            f"already is kept.{yours}"
        )
    if choice == "auto" and short is not None and total_steps < short.below:
        return (
            f"{taken}, with a peak rate of {short.learning_rate:g}: the paper's optimizer learns "
            f"little in so few and is the default from {short.below} steps on.{yours}"
        )
    return f"{taken}, with the paper's settings.{yours}"


def peak_rate(model):
    """The highest learning rate of a compiled model and the class of its optimizer, as text."""
    own = optimizers.each(model.optimizer)
    names = dict.fromkeys(type(optimizer).__name__ for optimizer in own)
    rates = dict.fromkeys(f"{_highest_rate(optimizer):.3g}" for optimizer in own)
    return f"{' and '.join(rates)} ({', '.join(names)})"


def _highest_rate(optimizer):
    schedule = optimizer._learning_rate
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return _number(schedule)
    # What a warm-up ends at, by kind of schedule; those without a warm-up only fall.
    for name in ("peak", "warmup_target"):
        if getattr(schedule, name, None) is not None:
            return getattr(schedule, name)
    return _number(schedule(0))


def build(model):
    """Make the variables of the model's optimizer, or of its players' optimizers."""
    with scope(model):
        if model.players and not isinstance(optimizers.inner(model.optimizer), optimizers.Players):
            model.compile(optimizers.Players.like(model.optimizer, model.players))
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
            model.batches_seen.assign(0)  # schedules of a new optimizer begin at its first step
        if model.players:
            optimizer = optimizers.inner(model.optimizer)
            optimizer.build_players(model.players, scaled=optimizer is not model.optimizer)


def forget(model, variables):
    """Put what the model's optimizer keeps of `variables` back to zero: velocities and the like."""
    if not model.compiled or model.optimizer is None:
        return
    # Keras names what it keeps of a variable by the variable's path.
    paths = tuple(variable.path.replace("/", "_") + "_" for variable in variables)
    for each in optimizers.each(model.optimizer):
        for own in each.variables:
            if own.name.startswith(paths):
                own.assign(np.zeros(own.shape))


def set_clock(model, epochs, steps):
    """Tell the model's schedules where the run ends: `epochs` of `steps` batches from here."""
    if steps is None:
        return
    batches = optimizers.accumulation(model.optimizer)
    _check_accumulation(batches, int(_number(model.batches_seen)) + epochs * steps)
    model.total_steps.assign(int(_number(model.step)) + epochs * steps // batches)
    model.steps_per_epoch.assign(max(1, steps // batches))


def _check_accumulation(batches, of_run):
    if 1 < batches > of_run:
        raise ValueError(
            "`gradient_accumulation_steps` must not exceed the batches of the run, or the "
            f"optimizer never moves. Received: {batches} with {of_run} batches. Use fewer, a "
            "smaller batch_size or more epochs."
        )


def count_step(model):
    """Count a batch after `update`, and let state follow the weights where they have moved."""
    model.batches_seen.assign_add(1)
    batches = optimizers.accumulation(model.optimizer)
    if batches == 1:
        model.after_step()
    else:  # gradients accumulate: the weights move in every `batches`-th step only
        model.when(ops.equal(model.batches_seen % batches, 0), model.after_step)


def check(model):
    """Raise on settings that `fit` would silently ignore; warn of a learning rate of 0."""
    if model.losses:
        raise ValueError(
            f"{type(model).__name__} does not add regularizers of layers to its objective, but "
            f"{len(model.losses)} were found. "
            "Remove `kernel_regularizer` and the like and use the optimizer's `weight_decay`."
        )
    batches = optimizers.accumulation(model.optimizer)
    with scope(model):
        if batches > 1 and distribute.num_replicas() > 1:
            raise ValueError(
                "`gradient_accumulation_steps` works on one replica only (a limit of Keras' "
                f"optimizers under tf.distribute). Received: {batches} with "
                f"{distribute.num_replicas()} replicas. Use a larger batch_size."
            )
    for each in optimizers.each(model.optimizer):
        steps = int(_number(each.iterations)) if each.built else 0
        rate = _number(each.learning_rate)
        if not 0 <= rate <= _HIGHEST_RATE:
            raise ValueError(
                f"The learning rate must be from 0 to {_HIGHEST_RATE:g}. Received: {rate:g} at "
                f"step {steps}. Give `compile` an optimizer with another one."
            )
        if steps and rate == 0:
            warnings.warn(
                f"The learning rate is 0 at step {steps}: its schedule has ended and training "
                "changes nothing more. Call `compile` with a new optimizer to train on.",
                stacklevel=4,
            )


def follows_schedule(model):
    """Whether a learning rate is a function of the step, which nothing else can set."""
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return any(isinstance(o._learning_rate, schedule) for o in optimizers.each(model.optimizer))


def clip(gradients, optimizer):
    """Shares of the clipped gradient, which the replicas' optimizers sum to it.

    Keras clips each replica's share before it sums them. Here the shares are summed first, the
    sum is clipped, and each replica gets an equal part of it, which is below the limit, so that
    Keras' own clipping changes nothing. All replicas agree on overflow, too.

    Args:
        gradients: one replica's shares; None where there is no gradient. Scaled by the loss scale,
            if `optimizer` is a `LossScaleOptimizer`.
        optimizer: a Keras optimizer whose clipping applies, if any.

    Returns:
        List of the same form.
    """
    replicas = distribute.num_replicas()
    places = [i for i, gradient in enumerate(gradients) if gradient is not None]
    sums = distribute.replica_sum([gradients[i] for i in places])
    inner = optimizers.inner(optimizer)
    # Limits apply to the true gradient. An overflow must stay one: `clipvalue` would cut it off.
    scale = 1.0 if inner is optimizer else optimizer.dynamic_scale
    clipped = inner._clip_gradients([g / ops.cast(scale, g.dtype) for g in sums])
    result = list(gradients)
    for i, total, cut in zip(places, sums, clipped):
        cut = ops.where(ops.isfinite(total), cut * ops.cast(scale, cut.dtype), total)
        result[i] = cut / replicas
    return result


def clips(optimizer):
    """Whether an optimizer limits gradients."""
    inner = optimizers.inner(optimizer)
    return any((inner.clipnorm, inner.clipvalue, inner.global_clipnorm))


@contextlib.contextmanager
def compiled_for_evaluation(model):
    """Keras evaluates compiled models only; within this any model counts as compiled."""
    if model.compiled:
        yield
        return
    with scope(model):
        model.compile(optimizer=None)
    try:
        yield
    finally:
        model.compiled, model.test_function = False, None


def _number(scalar):
    """The value of a scalar tensor or variable, mirrored or not."""
    return float(scalar.numpy() if hasattr(scalar, "numpy") else scalar)
