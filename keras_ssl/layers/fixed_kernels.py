"""Kernels that are made of a layer's weights (masked, normalised), made once for many calls."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras

_FIXED = contextvars.ContextVar("fixed_kernels", default=None)


@contextlib.contextmanager
def fixed_kernels(model: keras.Model) -> Iterator[None]:
    """Within it, layers of `model` that have `make_kernel` use what it gives now.

    For loops over pixels: a graph that makes a kernel in the loop makes it once a pixel.
    """
    layers = [x for x in model._flatten_layers() if hasattr(x, "make_kernel") and x.built]
    token = _FIXED.set({id(layer): layer.make_kernel() for layer in layers})
    try:
        yield
    finally:
        _FIXED.reset(token)


def kernel_of(layer: keras.Layer) -> Any:
    """The kernel of `layer`: that which was fixed, or a new one."""
    found = (_FIXED.get() or {}).get(id(layer))
    return layer.make_kernel() if found is None else found
