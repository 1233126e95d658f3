"""Starts that the data decide: layers that set their weights from what they are called on."""

import contextlib
import contextvars
from collections.abc import Iterator

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
