"""The order of an image's dimensions."""

from collections.abc import Sequence

_MOST = 4  # height of at most this, with more channels: the channels stand first


def check_channels_last(shape: Sequence[int | None], name: str, remedy: str) -> None:
    """Raise where images of `shape`, (..., height, width, channels), have their channels first.

    Args:
        shape: of an image or of several, None where unknown.
        name: of what has that shape.
        remedy: how to put the channels last.
    """
    height, _, channels = tuple(shape)[-3:]
    if None not in (height, channels) and height <= _MOST < channels:
        raise ValueError(
            f"Images must have their channels last. Received: {name} of shape {tuple(shape)}. "
            f"Use {remedy}."
        )
