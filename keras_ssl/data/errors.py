"""What a failure inside a `tf.data` graph means for the one who brought the images."""

import re

import tensorflow as tf

_MESSAGES = (
    re.compile(r"assertion failed: \[(Float images .*?)\] \[(\S+)\] \[(\S+)\]"),
    re.compile(r"ValueError: (\d+ of \d+ image files .*?max_corrupt_fraction=\.\.\.\)\.)", re.S),
)


def unusable_images(error: Exception) -> str | None:
    """What `error`, raised by a data set in a graph, says about images; else None."""
    if isinstance(error, tf.errors.OpError):
        for message in _MESSAGES:
            found = message.search(error.message)
            if found:
                return " ".join(found.groups())
    return None
