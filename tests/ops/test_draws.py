"""Draws without state: the hash, uniform numbers, permutations, seeds that matter."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.ops import draws


def scrambled(x):
    """The hash in plain integers."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


@pytest.mark.parametrize("key", [0, 3, 10**9])
def test_draws_equal_the_hash_in_plain_integers(key):
    start = scrambled((key + 0x9E3779B9) & 0xFFFFFFFF)
    expected = [(scrambled((scrambled(k) + start) & 0xFFFFFFFF) >> 1) % 1000 for k in range(20)]
    assert np.array(draws.integers(key, 20, 1000)).tolist() == expected
    assert np.array(draws.integers(tf.constant(key), 20, 1000)).tolist() == expected


def test_integers_are_uniform_independent_and_with_replacement():
    found = np.stack([np.array(draws.integers(step, 1000, 500)) for step in range(100)])
    expected = found.size / 500
    chi = ((np.bincount(found.ravel(), minlength=500) - expected) ** 2 / expected).sum()
    assert found.min() >= 0 and found.max() < 500 and 370 < chi < 640  # 499 +- 4 deviations
    distinct = [len(np.unique(row)) for row in found]
    assert abs(np.mean(distinct) - 500 * (1 - np.exp(-2))) < 3
    for a, b in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_every_place_of_a_permutation_is_equally_likely():
    orders = np.stack([np.array(draws.permutation(key, 8)) for key in range(2000)])
    assert all(sorted(order) == list(range(8)) for order in orders)
    counts = np.stack([np.bincount(orders[:, place], minlength=8) for place in range(8)])
    chi = ((counts - 250) ** 2 / 250).sum()
    assert 15 < chi < 95  # 49 +- 4.6 deviations
    assert len({tuple(order) for order in orders}) > 1900


def test_runs_of_other_seeds_draw_otherwise():
    keys = [int(np.array(draws.draw_key(seed, step))) for seed in range(50) for step in range(50)]
    assert len(set(keys)) == len(keys) and keys[:50] == list(range(50))
    assert int(np.array(draws.draw_key(tf.constant(3), tf.constant(7)))) == keys[3 * 50 + 7]
