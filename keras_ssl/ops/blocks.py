"""Masks made of blocks of patches; functions of uniform numbers, which come with the batch."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ssl.ops.masking import random_order

_ATTEMPTS = 16  # blocks that `scattered_blocks` tries
_ASPECT = 0.3  # its blocks have aspects from this to the inverse
_SIZES = 256  # equally probable sizes in a table of `block_sizes`

SCATTERED_NUMBERS = 2 + 4 * _ATTEMPTS  # that `scattered_blocks` needs for an image


class MultiBlock(NamedTuple):
    """Places of a context and of T blocks to predict from it; see `multi_block`.

    Attributes:
        context: int32 `(B, K)`.
        targets: int32 `(B, T, M)`; a smaller block is filled up with places outside it.
        weights: float32 `(B, T, M)`: 1 at places of the block, which come first, 0 at others.
    """

    context: Any
    targets: Any
    weights: Any


def rectangles(corners: Any, sizes: Any, grid: Sequence[int]) -> Any:
    """float32 `(..., h w)`, row by row: 1 inside a rectangle of patches, else 0.

    Args:
        corners: top and left, `(..., 2)`.
        sizes: height and width, `(..., 2)`.
        grid: (h, w).
    """
    inside = []
    for axis, side in enumerate(grid):
        first, count = corners[..., axis, None], sizes[..., axis, None]
        places = ops.cast(ops.arange(side), first.dtype)
        inside.append(ops.logical_and(places >= first, places < first + count))
    both = ops.logical_and(inside[0][..., :, None], inside[1][..., None, :])
    return ops.cast(ops.reshape(both, (*ops.shape(both)[:-2], math.prod(grid))), "float32")


def marked_first(mask: Any) -> Any:
    """Order of the places, int32 `(..., L)`: those of `mask` 1 row by row, then those of 0."""
    length = mask.shape[-1]
    return random_order((1.0 - mask) * length + ops.arange(length, dtype="float32"))


def scattered_blocks(
    noise: Any, grid: Sequence[int], share: float, lowest: float, highest: float
) -> Any:
    """Masks of iBOT: blocks of several sizes that together hide a random part of an image.

    An image is masked with probability `share`; then a rate is drawn between `lowest` and
    `highest`, and blocks are put one after the other: areas uniform between the square of a third
    of the shorter side and what the rate leaves, aspects between 0.3 and its inverse, uniform in
    their logarithm, places uniform. A block that does not fit, hides nothing new or would hide more
    than the rate is left out. Bao et al. 2021 (BEiT), https://arxiv.org/abs/2106.08254, algorithm
    1; Zhou et al. 2021 (iBOT), https://arxiv.org/abs/2111.07832, section 4.1.
    Departures from the authors' code: 16 blocks are tried in all; theirs ends after 10 in a row
    that were left out.

    Args:
        noise: uniform in [0, 1), `(..., SCATTERED_NUMBERS)`; an image's mask is a function of it.
        grid: (h, w).
        share: of the images that are masked.
        lowest: of the rate.
        highest: of the rate; no image has more than `highest` h w hidden places.

    Returns:
        float32 `(..., h w)`: 1 where a patch is hidden.
    """
    rows, columns = grid
    rate = lowest + noise[..., 1] * (highest - lowest)
    limit = ops.where(noise[..., 0] < share, rate * (rows * columns), 0.0)
    smallest = float((min(rows, columns) // 3) ** 2)
    sides = np.array(grid, "float32")
    tries = ops.reshape(noise[..., 2:], (*ops.shape(noise)[:-1], _ATTEMPTS, 4))

    def attempt(i, mask):
        u = ops.take(tries, i, axis=-2)
        left = limit - ops.sum(mask, axis=-1)
        area = smallest + u[..., 0] * (left - smallest)
        root = ops.exp((u[..., 1] - 0.5) * -math.log(_ASPECT))  # of the aspect
        length = ops.sqrt(ops.maximum(area, 0.0))
        size = ops.round(ops.stack([length * root, length / root], axis=-1))
        block = rectangles(_places(u[..., 2:], size, sides), size, grid)
        new = ops.sum(block * (1.0 - mask), axis=-1)
        fits = ops.all(size < sides, axis=-1)
        fits = ops.logical_and(fits, ops.logical_and(new > 0, new <= left))
        return ops.where(fits[..., None], ops.maximum(mask, block), mask)

    # A loop of the graph: unrolled, it took as long to trace as the network.
    mask = ops.zeros((*ops.shape(noise)[:-1], rows * columns), "float32")
    mask = ops.fori_loop(0, _ATTEMPTS, attempt, mask)
    return mask


def block_sizes(
    grid: Sequence[int], scale: Sequence[float], aspect: Sequence[float] = (1.0, 1.0)
) -> np.ndarray:
    """Sizes of I-JEPA's blocks: a table of 256 (height, width) in patches, all as probable.

    With r = 1/512, 3/512, ... a block has n = floor(h w s) patches and aspect a, s and a being at
    the share r of the way through their ranges: height round(sqrt(n a)), width round(sqrt(n / a)),
    both one less than the grid's side at most and 1 at least. That is `_sample_block_size` of the
    authors' code, where one uniform number, r, decides both.

    Args:
        grid: (h, w).
        scale: smallest and largest share of the grid.
        aspect: smallest and largest height / width.

    Returns:
        int32 `(256, 2)`.
    """
    way = (np.arange(_SIZES) + 0.5) / _SIZES
    count = np.floor(math.prod(grid) * (scale[0] + way * (scale[1] - scale[0])) + 1e-9)
    ratio = aspect[0] + way * (aspect[1] - aspect[0])
    sizes = np.round(np.sqrt(np.stack([count * ratio, count / ratio], axis=-1)))
    return np.clip(sizes, 1, np.maximum(np.array(grid) - 1, 1)).astype("int32")


def multi_block(
    noise: Any,
    grid: Sequence[int],
    num_blocks: int,
    target_sizes: np.ndarray,
    context_sizes: np.ndarray,
) -> MultiBlock:
    """Masks of I-JEPA: blocks to predict, and a context that shares no place with them.

    The T blocks of an image have one size, drawn from the table, and places drawn each by itself;
    they may overlap. The context is K patches of a large block from which the targets are taken
    away, K = L - T M with M the patches of the largest target: so many are free in every image. If
    less than K of the large block are, other free patches are added. Which K of them is random.
    Assran et al. 2023, https://arxiv.org/abs/2301.08243, section 3; see `IJEPA` for departures.

    Args:
        noise: uniform in [0, 1), `(B, multi_block_numbers(grid, num_blocks))`.
        grid: (h, w), L = h w.
        num_blocks: T.
        target_sizes: `block_sizes` of the targets.
        context_sizes: `block_sizes` of the large block.
    """
    length, largest = math.prod(grid), _largest(target_sizes)
    few, order = noise[:, : 4 + 2 * num_blocks], noise[:, 4 + 2 * num_blocks :]
    size = _drawn(few[:, 0], target_sizes)[:, None]  # (B, 1, 2)
    places = ops.reshape(few[:, 4:], (-1, num_blocks, 2))
    sides = np.array(grid, "float32")
    size = ops.broadcast_to(size, ops.shape(places))
    blocks = rectangles(_places(places, size, sides), size, grid)  # (B, T, L)
    around = _drawn(few[:, 1], context_sizes)
    around = rectangles(_places(few[:, 2:4], around, sides), around, grid)  # (B, L)
    # The random order among those of a kind: of the large block, other free ones, targets.
    kind = ops.where(ops.max(blocks, axis=1) > 0, 2.0, 1.0 - around)
    context = random_order(order + kind)[:, : length - num_blocks * largest]
    targets = marked_first(blocks)[:, :, :largest]
    return MultiBlock(context, targets, ops.take_along_axis(blocks, targets, axis=-1))


def multi_block_numbers(grid: Sequence[int], num_blocks: int) -> int:
    """Uniform numbers that `multi_block` needs for an image."""
    return 4 + 2 * num_blocks + math.prod(grid)


def context_length(grid: Sequence[int], num_blocks: int, target_sizes: np.ndarray) -> int:
    """K of `multi_block`: places that are free however the targets lie; may be negative."""
    return math.prod(grid) - num_blocks * _largest(target_sizes)


def _largest(sizes: np.ndarray) -> int:
    return int(sizes.prod(axis=-1).max())


def _drawn(uniform: Any, table: np.ndarray) -> Any:
    """Rows of the table at uniform numbers, float32 `(..., 2)`."""
    row = ops.cast(ops.floor(uniform * len(table)), "int32")
    return ops.take(ops.convert_to_tensor(table, "float32"), row, axis=0)


def _places(uniform: Any, sizes: Any, sides: np.ndarray) -> Any:
    """Corners, evenly among those at which the blocks fit."""
    room = ops.maximum(sides - sizes, 0.0)
    return ops.minimum(ops.floor(uniform * (room + 1.0)), room)
