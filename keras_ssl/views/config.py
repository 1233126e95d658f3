"""Config from the constructor: an argument is kept as the attribute of the same name."""

import inspect
from collections.abc import Iterable
from typing import Any

import keras


class Configured:
    """`get_config` and `from_config` for a class that keeps every argument under its own name."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, serialised."""
        arguments = self._arguments().items()
        return {name: keras.saving.serialize_keras_object(value) for name, value in arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Configured":
        """The object that `get_config` described."""
        load = keras.saving.deserialize_keras_object
        return cls(**{name: load(value) for name, value in config.items()})

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"

    def _arguments(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}


def check_probability(name: str, value: float) -> float:
    """`value` as it is, if it lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a probability, from 0 to 1. Received: {name}={value}.")
    return value


def check_range(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """`value` as a tuple (low, high) with low <= high, both positive."""
    low, high = value
    if not (0 < low <= high):
        raise ValueError(f"`{name}` must be two numbers, 0 < low <= high. Received: {value}.")
    return (float(low), float(high))


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """`value` as it is, if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {tuple(choices)}. Received: {name}={value!r}.")
    return value


def check_size(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) from one number or two."""
    size = (value, value) if isinstance(value, int) else tuple(int(side) for side in value)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"`{name}` must be a positive number of pixels or (height, width). "
            f"Received: {name}={value}."
        )
    return size
