"""Bags of words: what their equations imply."""

import numpy as np
import pytest
from keras import ops

from keras_ssl.ops import words

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 8, 5)).astype("float32")
WORDS = RNG.normal(size=(6, 5)).astype("float32")


def distances(features=FEATURES, vocabulary=WORDS):
    return words.squared_distances(features, vocabulary)


BAGS = {
    "counts": words.counted_bag,
    "presence": lambda d: words.counted_bag(d, True),
    "soft": lambda d: words.soft_bag(d, 0.7),
}


def test_distances_equal_the_definition():
    expected = np.sum((FEATURES[:, :, None] - WORDS) ** 2, axis=-1)
    np.testing.assert_allclose(distances(), expected, atol=1e-5)


def test_distances_are_in_float32_and_never_negative():
    x = ops.cast(100 * FEATURES, "bfloat16")
    found = words.squared_distances(x, ops.cast(x[0], "float32"))
    assert "float32" in str(found.dtype) and np.min(found) >= 0
    np.testing.assert_allclose(np.diagonal(found[0]), 0, atol=0.05)


@pytest.mark.parametrize("bag", BAGS.values(), ids=BAGS)
def test_bags_sum_to_one_whatever_the_order_of_the_places(bag):
    found, order = np.array(bag(distances())), RNG.permutation(8)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(bag(distances(FEATURES[:, order])), found, atol=1e-6)


@pytest.mark.parametrize("bag", BAGS.values(), ids=BAGS)
def test_words_in_another_order_are_bags_in_that_order(bag):
    order = RNG.permutation(6)
    found = np.array(bag(distances()))[:, order]
    np.testing.assert_allclose(bag(distances(vocabulary=WORDS[order])), found, atol=1e-6)


def test_counted_bags_are_shares_of_the_places():
    x = WORDS[[0, 0, 0, 2]][None] + 0.01
    np.testing.assert_allclose(words.counted_bag(distances(x)), [[0.75, 0, 0.25, 0, 0, 0]])
    np.testing.assert_allclose(words.counted_bag(distances(x), True), [[0.5, 0, 0.5, 0, 0, 0]])


@pytest.mark.parametrize("bag", [BAGS["counts"], BAGS["presence"]], ids=["counts", "presence"])
def test_an_image_of_one_word_is_one_hot(bag):
    np.testing.assert_allclose(bag(distances(WORDS[[3, 3]][None])), np.eye(6)[[3]])


def test_soft_bags_equal_the_equation():
    d = np.array(distances(), "float64")
    codes = np.exp(-0.7 * d) / np.exp(-0.7 * d).sum(-1, keepdims=True)
    bag = codes.max(1)
    np.testing.assert_allclose(BAGS["soft"](d), bag / bag.sum(1, keepdims=True), rtol=1e-5)


def test_soft_bags_become_those_of_presence_as_they_are_sharper():
    sharp = words.soft_bag(distances(), 1e4)
    np.testing.assert_allclose(sharp, BAGS["presence"](distances()), atol=1e-4)
    np.testing.assert_allclose(words.soft_bag(distances(), 0.0), 1 / 6, rtol=1e-6)


def test_soft_bags_do_not_depend_on_the_unit_of_the_features():
    """Scaled by a, with the mean distance scaled by a^2."""
    scaled = words.soft_bag(distances(3 * FEATURES, 3 * WORDS), 0.7 / 9)
    np.testing.assert_allclose(scaled, BAGS["soft"](distances()), atol=1e-5)


@pytest.mark.parametrize("features", [FEATURES[0], FEATURES[..., :4]], ids=["rank", "width"])
def test_other_shapes_are_refused(features):
    with pytest.raises(ValueError, match=r"`features` must have shape \(N, T, C\)"):
        words.squared_distances(features, WORDS)
