"""Hiding a part of a sequence of patches, and putting it in order again."""

from typing import Any

from keras import ops


def random_order(noise: Any) -> Any:
    """Permutation of each row's places by its numbers, int32 `(B, L)`: the least comes first."""
    return ops.cast(ops.argsort(noise, axis=-1), "int32")


def first_places(tokens: Any, order: Any, count: int) -> Any:
    """Tokens `(B, count, D)` at the first `count` places of `order`, of tokens `(B, L, D)`."""
    return ops.take_along_axis(tokens, order[:, :count, None], axis=1)


def in_place(tokens: Any, order: Any) -> Any:
    """Tokens `(B, L, D)` that stand in the sequence of `order`, each back at its own place."""
    return ops.take_along_axis(tokens, random_order(order)[:, :, None], axis=1)


def hidden_places(order: Any, count: int) -> Any:
    """float32 `(B, L)`: 0 at the first `count` places of `order`, 1 at the others."""
    rank = random_order(order)  # of a permutation: its inverse
    return ops.cast(rank >= count, "float32")


def patchify(images: Any, size: int) -> Any:
    """Images `(B, h size, w size, C)` as patches `(B, h w, size size C)`, row by row."""
    height, width, channels = images.shape[1:]
    rows, columns = height // size, width // size
    x = ops.reshape(images, (-1, rows, size, columns, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * columns, size * size * channels))


def unpatchify(patches: Any, grid: tuple[int, int], size: int) -> Any:
    """The images of patches `(B, h w, size size C)`: the inverse of `patchify`."""
    rows, columns = grid
    channels = patches.shape[-1] // (size * size)
    x = ops.reshape(patches, (-1, rows, columns, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * size, columns * size, channels))
