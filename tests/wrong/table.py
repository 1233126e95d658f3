"""The rows of the table of wrong inputs, faults and clumsy uses."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Row:
    """One input or fault, and what must come of it.

    Attributes:
        what: the input or fault, in a few words; the test's name.
        do: takes an empty folder; does the wrong thing, and asserts for itself what must hold.
        says: parts of the error's message: argument, value received, remedy. Empty where the use
            must end well.
        error: type of the error.
    """

    what: str
    do: Callable
    says: tuple = ()
    error: type = ValueError
