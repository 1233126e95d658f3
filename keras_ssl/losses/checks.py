"""Checks of the arguments of losses."""

from typing import Any


def check_temperature(temperature: float) -> None:
    """Raise unless `temperature` is positive."""
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be > 0. Received: temperature={temperature}. "
            "Usual values are 0.05 to 1."
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
            "Row i of one must be the other view of row i of the other."
        )
