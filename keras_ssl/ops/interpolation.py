"""Images between images, through a latent space."""

from collections.abc import Callable
from typing import Any

from keras import ops


def decode_lines(decode: Callable[[Any], Any], first: Any, second: Any, steps: int) -> Any:
    """Decode codes at even distances on the lines from `first` to `second`, both included.

    Args:
        decode: codes `(n, ...)` -> images `(n, height, width, channels)`.
        first: codes `(B, ...)`.
        second: of the same shape.
        steps: codes on each line, >= 2.

    Returns:
        `(B, steps, height, width, channels)`.

    Raises:
        ValueError: if `steps` is below 2.
    """
    if steps < 2:
        raise ValueError(f"`steps` must be >= 2, both ends included. Received: steps={steps}.")
    shares = ops.reshape(ops.linspace(0.0, 1.0, steps), (1, steps, *[1] * (len(first.shape) - 1)))
    codes = first[:, None] * (1.0 - shares) + second[:, None] * shares
    images = decode(ops.reshape(codes, (-1, *first.shape[1:])))
    return ops.reshape(images, (-1, steps, *images.shape[1:]))
