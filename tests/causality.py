"""What an output depends on, found by changing one input after the other."""

import numpy as np


def influence(function, shape, seed=0, change=0.4):
    """Which inputs move which outputs.

    Args:
        function: `(n, H, W, C)` to `(n, h, w, F)`.
        shape: (H, W, C).
        seed: of the image that is changed.
        change: added to one input at a time; all are in [0, 1] before.

    Returns:
        bool `(h, w, F, H, W, C)`.
    """
    size = int(np.prod(shape))
    image = np.random.default_rng(seed).random((1, *shape)).astype("float32")
    changed = np.repeat(image, size, axis=0).reshape(size, size)
    changed[np.arange(size), np.arange(size)] += change
    first = np.array(function(np.repeat(image, size, axis=0)), "float32")
    moved = np.array(function(changed.reshape(size, *shape)), "float32")
    moves = np.abs(moved - first) > 1e-6 * (1.0 + np.abs(first))
    return np.moveaxis(moves, 0, -1).reshape(*first.shape[1:], *shape)


def before(shape, outputs=None, inclusive=False, row_only=False):
    """Which inputs lie before each place, by rows, then columns: bool `(h, w, H, W)`.

    Args:
        shape: (H, W) of the inputs.
        outputs: places of the outputs' rows and columns among them; by default all.
        inclusive: whether the place itself counts.
        row_only: whether rows above count alone (with `inclusive`, the row as well).
    """
    rows, columns = outputs or (np.arange(shape[0]), np.arange(shape[1]))
    i, j = rows[:, None, None, None], columns[None, :, None, None]
    a, b = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    if row_only:
        return (a <= i if inclusive else a < i) & (b == b) & (j == j)
    return (a < i) | ((a == i) & (b <= j if inclusive else b < j))
