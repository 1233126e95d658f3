"""Dropout whose masks are functions of a number that comes with each image.

So they are the same on every backend, for every number of replicas, and in a resumed run.
"""

import contextlib
import contextvars
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
        size = 1
        for side in inputs.shape[1:]:
            size *= side
        key = ops.cast(ops.cast(noise * 2**_BITS, "int32"), "uint32")
        start = draws.scramble(key + draws.word(2 * self.salt + 1))
        counter = draws.scramble(ops.cast(ops.arange(size, dtype="int32"), "uint32"))
        words = draws.scramble(counter[None] + start[:, None])
        top = ops.cast(ops.right_shift(words, draws.word(32 - _BITS)), "int32")
        kept = ops.cast(top >= round(self.rate * 2**_BITS), inputs.dtype)
        return inputs * ops.reshape(kept, ops.shape(inputs)) / (1.0 - self.rate)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}
