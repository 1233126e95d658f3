"""Draws without state: the hash, uniform numbers, permutations, seeds that matter."""

import numpy as np
import pytest
import scipy.stats
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


def test_uniform_numbers_are_24_bits_of_the_hash():
    found = np.array(draws.uniforms(3, 100_000))
    words = np.array(draws.random_words(3, 100_000))
    np.testing.assert_array_equal(found, (words >> 8) / 2**24)
    assert 0 <= found.min() and found.max() < 1
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal_and_independent():
    found = np.array(draws.normals(5, (100, 1000)))
    assert found.shape == (100, 1000) and found.dtype == np.float32
    assert scipy.stats.kstest(found.ravel(), "norm").pvalue > 1e-3
    assert scipy.stats.kurtosis(found.ravel()) == pytest.approx(0, abs=0.05)
    other = np.array(draws.normals(6, (100, 1000)))
    for a, b in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1]), (found, other)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015
    np.testing.assert_array_equal(found, draws.normals(tf.constant(5), (100, 1000)))


def test_the_smallest_and_largest_words_give_finite_normal_numbers(monkeypatch):
    words = np.array([0, 0xFFFFFFFF, 0, 0xFFFFFFFF], "uint32")
    monkeypatch.setattr(draws, "random_words", lambda key, count: tf.constant(words))
    found = np.abs(np.array(draws.normals(0, (2,))))
    assert found[0] == 0 and 5.7 < found[1] < 5.8


def test_slices_have_unit_length_and_no_direction_is_preferred():
    found = np.array(draws.slices(2, 5, 20_000))
    assert found.shape == (5, 20_000)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean(1), 0, atol=0.015)
    np.testing.assert_allclose(found @ found.T / 20_000, np.eye(5) / 5, atol=0.01)
    assert not np.allclose(found, draws.slices(3, 5, 20_000), atol=0.1)
