"""Messages for the user that have to pass through an error of a `tf.data` graph.

TensorFlow wraps what fails inside a graph in an error of its own, with node names and tracebacks
around the message. Where such a message is made it is put between two marks, and `unusable_images`
finds it there again, whatever its wording. The marks are invisible characters, which TensorFlow
passes on unescaped: who reads the raw error does not see them.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

BEGIN, END = "\u2063\u2062", "\u2062\u2063"  # invisible separator and times, in either order


def raises_in_graph(function: Callable) -> Callable:
    """`function`, for use in `tf.numpy_function`: the message of its ValueError is marked."""

    @functools.wraps(function)
    def marked(*arguments):
        try:
            return function(*arguments)
        except ValueError as error:
            raise ValueError(f"{BEGIN}{error}{END}") from None

    return marked


def unusable_images(error: Exception) -> str | None:
    """The message about images in an `error` that a graph raised; None if there is none."""
    if not isinstance(error, tf.errors.OpError):
        return None
    _, begin, rest = error.message.partition(BEGIN)
    message, end, _ = rest.partition(END)
    return message if begin and end else None
