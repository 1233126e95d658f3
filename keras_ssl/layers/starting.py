"""Starts that the data decide, once in a model's life: of layers, flows and palettes."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

# A context variable, not an argument: it must reach layers inside other layers and models. It is
# false wherever a graph is traced.
_STARTING = contextvars.ContextVar("starting", default=False)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Within it, layers that start from data do so when they are called, eagerly and in order.

    So one pass through a network starts all of it: each layer before it hands on what it computes.
    """
    token = _STARTING.set(True)
    try:
        yield
    finally:
        _STARTING.reset(token)


def is_starting() -> bool:
    """Whether layers are to set their weights now."""
    return _STARTING.get()


def start_flag(owner: keras.Layer) -> keras.Variable:
    """A variable of a layer or model, saved with it, that is 1 once it has had its start."""
    return owner.add_weight(
        shape=(),
        dtype="int32",
        initializer="zeros",
        trainable=False,
        aggregation="only_first_replica",
        name="started",
    )


def has_started(flag: keras.Variable) -> bool:
    """Whether the owner of a `start_flag` has had its start."""
    return bool(ops.convert_to_numpy(flag))


def must_start(flag: keras.Variable, source: Any, what: str) -> bool:
    """Whether a start from `source`, that `fit` gives to `begin_epoch`, is still to come.

    Args:
        flag: of the owner.
        source: a `keras_ssl.data.Source`; None where `fit` was given ready batches.
        what: what starts, and of which method, for the error.

    Raises:
        ValueError: if it is to come and there is no source.
    """
    if has_started(flag):
        return False
    if source is None:
        raise ValueError(
            f"{what} starts from images, before the first step. Received: ready batches, which "
            "`fit` does not read twice. Pass images to `fit`, or call "
            "model.begin_epoch(keras_ssl.data.load(images)) once before it."
        )
    return True
