"""Messages for the user that have to pass through an error of a `tf.data` graph.

TensorFlow wraps what fails inside a graph in an error of its own, with node names and tracebacks
around the message. Where such a message is made it is put between two marks, and `unusable_images`
finds it there again, whatever its wording. The marks are invisible characters, which TensorFlow
passes on unescaped: who reads the raw error does not see them.
"""

import functools
import re
from collections.abc import Callable

import tensorflow as tf

BEGIN, END = "\u2063\u2062", "\u2062\u2063"  # invisible separator and times, in either order
_NODES = re.compile(r"\{\{.*?\}\}|\[Op:.*")  # names of operations around TensorFlow's own words


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
    return _marked(error.message) if isinstance(error, tf.errors.OpError) else None


def empty_pass(name: str) -> str:
    """The message where reading all images of a source once more yields none."""
    return (
        f"{name} must give its images every time it is read. Received: nothing on a later pass, "
        "as from a generator that is used up. Make the generator anew on each pass, "
        "tf.data.Dataset.from_generator(lambda: make_generator(), ...), or keep the images with "
        "dataset.cache() before they are read for the first time."
    )


def reason(error: Exception) -> str:
    """What an `error` of reading an image says, in one line."""
    text = getattr(error, "message", None) or str(error)
    text = _marked(text) or _NODES.sub("", text)
    return " ".join(text.split())[-300:]


def _marked(text: str) -> str | None:
    _, begin, rest = text.partition(BEGIN)
    message, end, _ = rest.partition(END)
    return message if begin and end else None
