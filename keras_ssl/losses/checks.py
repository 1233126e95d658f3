"""Checks of the arguments of losses."""

from typing import Any


def check_temperature(
    temperature: float, name: str = "temperature", usual: str = "0.05 to 1"
) -> None:
    """Raise unless `temperature`, the argument `name`, is positive."""
    if not temperature > 0:
        raise ValueError(
            f"`{name}` must be > 0. Received: {name}={temperature}. Usual values are {usual}."
        )


def check_matrices(**named: Any) -> None:
    """Raise unless the two tensors, given by name, are matrices of one shape."""
    (name1, x1), (name2, x2) = named.items()
    shapes = tuple(x1.shape), tuple(x2.shape)
    same = all(a == b or a is None or b is None for a, b in zip(*shapes))
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or not same:
        raise ValueError(
            f"`{name1}` and `{name2}` must both have shape (N, D). "
            f"Received: {name1}.shape={shapes[0]}, {name2}.shape={shapes[1]}. "
            "Row i of one belongs to row i of the other: both are of one image."
        )


def check_queue(queue: Any, width: int, like: str) -> None:
    """Raise unless `queue` has rows of `width`, which is that of the argument `like`."""
    if len(queue.shape) != 2 or queue.shape[-1] != width:
        raise ValueError(
            f"`queue` must have shape (K, {width}), one key a row, as wide as `{like}`. "
            f"Received: queue.shape={tuple(queue.shape)}. Transpose it if keys are columns."
        )


def check_views(z: Any) -> None:
    """Raise unless `z` is embeddings of views, `(V, N, D)`."""
    if len(z.shape) != 3:
        raise ValueError(
            f"`z` must have shape (V, N, D): views, images, width. Received: z.shape="
            f"{tuple(z.shape)}. Stack the embeddings of the views along a new first axis."
        )


def check_slices(z: Any, slices: Any) -> None:
    """Raise unless `z` is batches of embeddings and `slices` directions of the same width."""
    if len(z.shape) < 2 or len(slices.shape) != 2 or slices.shape[0] != z.shape[-1]:
        raise ValueError(
            "`z` must have shape (..., N, D) and `slices` (D, S), one direction a column. "
            f"Received: z.shape={tuple(z.shape)}, slices.shape={tuple(slices.shape)}. "
            "`ops.draws.slices(key, D, S)` draws them."
        )
