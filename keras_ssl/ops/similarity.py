"""Unit vectors."""

from typing import Any

from keras import ops


def l2_normalize(x: Any, epsilon: float = 1e-12) -> Any:
    """Divide the vectors of the last axis by their Euclidean norm, in float32.

    x / sqrt(max(|x|^2, epsilon)). The floor is inside the root, so a zero vector stays zero and its
    gradient is finite; any vector longer than sqrt(epsilon) becomes a unit vector exactly.

    Args:
        x: tensor `(..., D)` of any floating dtype.
        epsilon: floor of the squared norm, > 0.

    Returns:
        float32 tensor of the shape of `x`.

    Raises:
        ValueError: if `epsilon` is not positive.
    """
    if epsilon <= 0:
        raise ValueError(f"`epsilon` must be > 0. Received: epsilon={epsilon}.")
    x = ops.cast(x, "float32")
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, epsilon))
