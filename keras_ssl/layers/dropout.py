"""Dropout and stochastic depth, whose masks are functions of a number that comes with each image.

So they are the same on every backend, for every number of replicas, and in a resumed run.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ssl.ops import draws

_NOISE = contextvars.ContextVar("dropout_noise", default=None)
_BITS = 24  # of a float32's mantissa, in which uniform numbers are exact


@contextlib.contextmanager
def dropout_noise(noise: Any) -> Iterator[None]:
    """Within it, `KeyedDropout` takes its masks from `noise`.

    Args:
        noise: one number an image, `(B,)`, uniform in [0, 1).
    """
    token = _NOISE.set(noise)
    try:
        yield
    finally:
        _NOISE.reset(token)


@keras.saving.register_keras_serializable("keras_ssl")
class KeyedDropout(keras.layers.Layer):
    """Dropout in training mode within `dropout_noise`; elsewhere the identity.

    Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html: values are zero with
    probability `rate`, else divided by 1 - `rate`.

    Args:
        rate: in [0, 1).
        salt: a number that tells the layers of a network apart.
        **kwargs: as `keras.layers.Layer`.

    Raises:
        ValueError: if `rate` is outside its range.
    """

    def __init__(self, rate: float, salt: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate}.")
        self.rate, self.salt = rate, salt

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Inputs `(B, ...)` with some values zero."""
        noise = _NOISE.get()
        if not training or not self.rate or noise is None:
            return inputs
        shape = self._mask_shape(inputs)
        kept = ops.cast(_kept(noise, self.rate, self.salt, math.prod(shape)), inputs.dtype)
        return inputs * ops.reshape(kept, (-1, *shape)) / (1.0 - self.rate)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}

    def _mask_shape(self, inputs: Any) -> tuple:
        return tuple(inputs.shape[1:])


@keras.saving.register_keras_serializable("keras_ssl")
class DropPath(KeyedDropout):
    """Stochastic depth: in training mode within `dropout_noise`, a branch is zero for some images.

    Huang et al. 2016, https://arxiv.org/abs/1603.09382: all values of an image are zero with
    probability `rate`, else divided by 1 - `rate` (as DeiT has it).
    """

    def core_layer(self) -> keras.Layer:
        """What it is in inference mode, in Keras' own layers."""
        return keras.layers.Activation("linear", dtype=self.dtype_policy, name=self.name)

    def _mask_shape(self, inputs: Any) -> tuple:
        return (1,) * (len(inputs.shape) - 1)


def noise_of(images: Any) -> Any:
    """A number in [0, 1) for each image, float32 `(B,)`, that its pixels decide.

    For `dropout_noise` where a batch brings no numbers: views of an image differ from epoch to
    epoch, and so do these, but they do not on other backends, replicas, or in a resumed run. Pixels
    on a grid of 16 by 16 at most are looked at.

    Args:
        images: `(B, H, W, C)`, uint8 or float in [0, 1].
    """
    rows, columns = (max(1, (side or 16) // 16) for side in images.shape[1:3])
    seen = images[:, ::rows, ::columns]
    scale = 1.0 if "int" in keras.backend.standardize_dtype(images.dtype) else 2.0**_BITS
    seen = ops.reshape(ops.cast(seen, "float32") * scale, (ops.shape(images)[0], -1))
    places = draws.scramble(ops.cast(ops.arange(ops.shape(seen)[1], dtype="int32"), "uint32"))
    words = draws.scramble(ops.cast(ops.cast(seen, "int32"), "uint32") + places[None])
    # A sum of integers, which may wrap, does not depend on the order in which a backend adds.
    total = ops.cast(ops.sum(ops.cast(words, "int32"), axis=1), "uint32")
    top = ops.right_shift(draws.scramble(total), draws.word(32 - _BITS))
    return ops.cast(ops.cast(top, "int32"), "float32") * 2.0**-_BITS


def _kept(noise: Any, rate: float, salt: int, count: int) -> Any:
    """Which values are kept, bool `(B, count)`: true with probability 1 - `rate`."""
    key = ops.cast(ops.cast(noise * 2**_BITS, "int32"), "uint32")
    start = draws.scramble(key + draws.word(2 * salt + 1))
    counter = draws.scramble(ops.cast(ops.arange(count, dtype="int32"), "uint32"))
    words = draws.scramble(counter[None] + start[:, None])
    top = ops.cast(ops.right_shift(words, draws.word(32 - _BITS)), "int32")
    return top >= round(rate * 2**_BITS)
