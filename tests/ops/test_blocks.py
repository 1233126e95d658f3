"""Masks of blocks: their sizes, what they hide, and that contexts and targets are apart."""

import numpy as np
import pytest

from keras_ssl.ops import blocks

SCALE, ASPECT = (0.15, 0.2), (0.75, 1.5)


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype("float32")


def test_rectangles():
    corners, sizes = np.array([[0.0, 1], [1, 0]]), np.array([[1.0, 2], [2, 1]])
    found = np.array(blocks.rectangles(corners, sizes, (3, 4))).reshape(2, 3, 4)
    np.testing.assert_array_equal(found[0], [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found[1], [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


def test_marked_places_come_first_row_by_row():
    mask = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], "float32")
    np.testing.assert_array_equal(blocks.marked_first(mask), [[1, 3, 0, 2], [0, 1, 2, 3]])


@pytest.mark.parametrize("grid", [(8, 8), (14, 14), (6, 9)])
def test_scattered_blocks_hide_no_more_than_their_rate(grid):
    noise = uniform(400, blocks.SCATTERED_NUMBERS)
    mask = np.array(blocks.scattered_blocks(noise, grid, 0.5, 0.1, 0.5))
    length = grid[0] * grid[1]
    assert mask.shape == (400, length) and set(np.unique(mask)) == {0.0, 1.0}
    counts, rates = mask.sum(axis=1), 0.1 + 0.4 * noise[:, 1]
    masked = noise[:, 0] < 0.5
    assert not counts[~masked].any()
    assert (counts <= rates * length + 1e-4).all()
    # The paper's blocks nearly reach the rate.
    assert (counts[masked] / (rates[masked] * length)).mean() > 0.85
    assert mask.any(axis=0).all()  # no place is left out


def test_an_images_mask_is_its_own():
    """Whatever else is in the batch, and along more axes."""
    noise = uniform(6, blocks.SCATTERED_NUMBERS)
    together = np.array(blocks.scattered_blocks(noise, (4, 4), 1.0, 0.2, 0.6))
    pairs = blocks.scattered_blocks(noise.reshape(3, 2, -1), (4, 4), 1.0, 0.2, 0.6)
    np.testing.assert_array_equal(np.array(pairs).reshape(6, 16), together)
    np.testing.assert_array_equal(
        blocks.scattered_blocks(noise[4], (4, 4), 1, 0.2, 0.6), together[4]
    )


def test_sizes_are_those_of_the_authors_code():
    """By hand: floor(196 s) patches of aspect a, for s and a at the ends and in the middle."""
    sizes = blocks.block_sizes((14, 14), SCALE, ASPECT)
    assert sizes.shape == (256, 2)
    assert sizes[0].tolist() == [5, 6]  # 29 patches of 0.75: 4.66 by 6.22
    assert sizes[128].tolist() == [6, 5]  # 34 of 1.127: 6.19 by 5.49
    assert sizes[255].tolist() == [8, 5]  # 39 of 1.5: 7.65 by 5.10
    around = blocks.block_sizes((8, 8), (0.85, 1.0))
    assert (around == 7).all()  # a side is left free
    assert (blocks.block_sizes((2, 2), SCALE, ASPECT) == 1).all()


@pytest.mark.parametrize(("grid", "number"), [((8, 8), 4), ((4, 4), 3), ((14, 14), 4)])
def test_context_and_targets(grid, number):
    sizes = blocks.block_sizes(grid, SCALE, ASPECT), blocks.block_sizes(grid, (0.85, 1.0))
    numbers, length = blocks.multi_block_numbers(grid, number), grid[0] * grid[1]
    found = blocks.multi_block(uniform(200, numbers), grid, number, *sizes)
    context, targets, weights = map(np.array, found)
    assert context.shape[1] == blocks.context_length(grid, number, sizes[0]) > 0
    for places, blocked, counted in zip(context, targets, weights):
        assert len(set(places)) == len(places) and set(places) < set(range(length))
        true = [set(b[w == 1]) for b, w in zip(blocked, counted)]
        assert not set(places) & set.union(*true)
        assert len({len(b) for b in true}) == 1  # of one size
        for block, counts in zip(true, counted):
            rows, columns = np.unravel_index(sorted(block), grid)
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert height * width == len(block) == counts.sum()  # a rectangle
            assert [height, width] in sizes[0].tolist()
            assert (np.diff(counts) <= 0).all()  # its places come first
    assert len(np.unique(targets.reshape(200, -1), axis=0)) > 50
    reached = np.zeros(length)
    np.add.at(reached, targets[weights == 1], 1)
    assert reached.all()  # the last row and column, too


def test_the_context_lies_in_its_block_where_that_has_room():
    """One target of one patch, and a context block of 3 x 3: its other patches come first."""
    sizes = np.full((256, 2), 1), np.full((256, 2), 3)
    found = blocks.multi_block(uniform(50, 4 + 2 + 16), (4, 4), 1, *sizes)
    inside = np.unravel_index(np.array(found.context)[:, :8], (4, 4))
    assert all((np.ptp(axis, axis=1) <= 2).all() for axis in inside)
