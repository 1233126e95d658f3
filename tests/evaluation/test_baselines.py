"""Yardsticks: what images cost without a model."""

import numpy as np
import pytest

from keras_ssl import evaluation

RNG = np.random.default_rng(0)


def test_independent_pixels_cost_the_entropy_of_their_places():
    """Places of different distributions; without knowing what pixels tell of one another."""
    choices = np.array([[10, 20], [0, 255], [7, 7]])  # of three places, each as likely
    draw = RNG.integers(0, 2, (4000, 3))
    images = choices[np.arange(3), draw].astype(np.uint8).reshape(-1, 1, 3, 1)
    mean, error = evaluation.independent_pixels(images[:2000], images[2000:])
    smoothed = -np.log2([1001 / 2256, 1001 / 2256, 2001 / 2256]).mean()  # add one to each of 256
    assert mean == pytest.approx(smoothed, abs=0.01) and error < 0.01
    copied = np.repeat(images[:, :, :1], 3, axis=2)  # three equal pixels cost three times one
    one, _ = evaluation.independent_pixels(copied[:2000, :, :1], copied[2000:, :, :1])
    assert evaluation.independent_pixels(copied[:2000], copied[2000:])[0] == pytest.approx(one)


def test_independent_values_of_tokens_are_counted():
    """Two places, three values: the counts of 4 rows, one more each."""
    train = np.array([[0, 2], [0, 2], [1, 2], [0, 1]])
    mean, error = evaluation.independent_values(train, np.array([[0, 2], [2, 0]]), 3)
    bits = -np.log2(np.array([[4 / 7, 4 / 7], [1 / 7, 1 / 7]])).mean(axis=1)
    assert mean == pytest.approx(bits.mean())
    assert error == pytest.approx(bits.std(ddof=1) / 2**0.5)


def test_probabilities_of_a_place_sum_to_one():
    train = RNG.integers(0, 256, (50, 1, 1, 1)).astype(np.uint8)
    values = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    bits = [evaluation.independent_pixels(train, v[None])[0] for v in values]
    assert np.exp2(-np.array(bits)).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("codec", ["PNG", "WEBP"])
def test_files_of_noise_are_longer_than_those_of_one_colour(codec):
    noise = RNG.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    plain = np.full((4, 16, 16, 3), 90, np.uint8)
    assert evaluation.compressed(noise, codec)[0] > 8 > evaluation.compressed(plain, codec)[0]
    as_float, error = evaluation.compressed(noise / 255.0, codec)
    assert as_float == evaluation.compressed(noise, codec)[0] and error >= 0


def test_grey_images_have_files_too():
    assert evaluation.compressed(RNG.random((3, 8, 8, 1)))[0] > 8


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="of one shape"):
        evaluation.independent_pixels(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="`codec` must be one of"):
        evaluation.compressed(np.zeros((2, 4, 4, 3)), "JPEG")
