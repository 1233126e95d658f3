"""Fixed positions of a grid."""

from collections.abc import Sequence

import numpy as np


def sincos_positions(grid: Sequence[int], width: int) -> np.ndarray:
    """Fixed positions of a grid of patches: sines and cosines of the row, then of the column.

    With w_k = 10000^(-4 k / D) for k < D/4, the place (r, c) has the vector

        sin(r w_k), cos(r w_k), sin(c w_k), cos(c w_k),    each for all k.

    Chen, Xie, He 2021 (MoCo v3), https://arxiv.org/abs/2104.02057, section 5; the order is that of
    `vits.py` of the authors' code. Departures from it: none on square grids; on others theirs gives
    patches the waves of other places.

    Args:
        grid: (h, w), numbers of rows and of columns.
        width: D, a multiple of 4.

    Returns:
        float32 array `(h * w, D)`, row by row.

    Raises:
        ValueError: if 4 does not divide `width`.
    """
    if width % 4:
        raise ValueError(f"`width` must be a multiple of 4. Received: width={width}.")
    waves = 10_000.0 ** (-4 * np.arange(width // 4) / width)
    angles = [places.reshape(-1, 1) * waves for places in np.indices(grid)]
    parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(parts, axis=-1).astype("float32")
