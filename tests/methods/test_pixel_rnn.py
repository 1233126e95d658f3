"""PixelRNN: exact likelihoods in the order of pixels and colours, and samplers of them."""

import math

import numpy as np
import pytest
from toys import images

from keras_ssl import PixelRNN

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
KINDS = ("diagonal", "row")


def make(lstm="diagonal", shape=SHAPE, scale=0.4, units=6):
    model = PixelRNN(shape, lstm=lstm, units=units, depth=2, hidden=48)
    for weight in model.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) * scale)
    return model


@pytest.mark.parametrize("lstm", KINDS)
def test_a_value_is_predicted_from_those_before_it(lstm):
    """In the order of rows, columns and colours: an image for each value that is changed."""
    model, x = make(lstm, scale=0.3, units=12), images(1, SHAPE, dtype="float32").reshape(1, 48)
    changed = np.where(np.eye(48, dtype=bool), (x + 0.5) % 1, x).reshape(48, *SHAPE)
    both = np.concatenate([x.reshape(1, *SHAPE), changed])
    logits = np.array(model._logits(model.network(both)))
    effect = np.abs(logits[1:] - logits[0]).max(axis=-1).reshape(48, 48).T
    before = np.tril(np.ones((48, 48), bool), -1)
    assert effect[~before].max() < 1e-5  # sums of a batch may be rounded in another order
    if lstm == "diagonal":
        assert (effect[before] > 0).all()


def test_loss_is_the_mean_of_log_prob():
    model, x = make(), images(6, SHAPE, dtype="float32")
    loss = float(model.compute_losses({"views": (x,)}, training=False)["loss"])
    assert loss == pytest.approx(-np.mean(model.log_prob(x)), rel=1e-5)


@pytest.mark.parametrize("lstm", KINDS)
def test_conditional_distributions_make_the_likelihood(lstm):
    """Value by value, from images whose later values are other ones."""
    model, x = make(lstm, (2, 2, 3)), images(2, (2, 2, 3))
    flat, total = x.reshape(2, 12), np.zeros(2)
    for d in range(12):
        cut = np.where(np.arange(12) < d, flat, RNG.integers(256, size=(2, 12)))
        view = cut.reshape(x.shape).astype("float32") / 255
        logits = np.array(model._logits(model.network(view)), "float64").reshape(2, 12, 256)[:, d]
        total += logits[[0, 1], flat[:, d]] - np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(model.log_prob(x), total, rtol=1e-5)


def test_first_losses_are_near_uniform():
    model = PixelRNN(SHAPE, units=6, depth=1, hidden=12)
    bits = -np.mean(model.log_prob(images(8, SHAPE))) / (48 * math.log(2))
    assert 7.5 < bits < 9


@pytest.mark.parametrize("lstm", KINDS)
def test_cached_samples_are_the_naive_ones(lstm):
    model, x = make(lstm), images(3, SHAPE)
    cached, naive = (np.array(model.sample(3, seed=3, cached=c)) for c in (True, False))
    np.testing.assert_array_equal(cached, naive)
    np.testing.assert_array_equal(np.round(255 * cached) / np.float32(255), cached)
    assert (np.array(model.sample(3, seed=4)) != cached).any()
    done = np.array(model.complete(x, 2, seed=1))
    np.testing.assert_array_equal(np.round(255 * done[:, :2]), x[:, :2])
    np.testing.assert_array_equal(done, model.complete(x, 2, seed=1, cached=False))
    assert (np.round(255 * done[:, 2:]) != x[:, 2:]).any()


@pytest.mark.slow
def test_samples_have_the_models_frequencies():
    """Chi-square of the first pixel's dark and light values, colour by colour, of 2,000 images."""
    from scipy import stats

    model = make(shape=(1, 2, 1), scale=0.7)
    drawn = np.round(255 * np.array(model.sample(2000, seed=0))).astype(int).reshape(2000, 2)
    logits = np.array(model._logits(model.network(np.zeros((1, 1, 2, 1), "float32"))), "float64")
    first = np.exp(logits[0, 0, 0, 0]) / np.exp(logits[0, 0, 0, 0]).sum()
    counts = np.bincount(drawn[:, 0] // 32, minlength=8)
    expected = 2000 * first.reshape(8, 32).sum(1)
    assert stats.chisquare(counts, expected / expected.sum() * 2000).pvalue > 1e-3
    # The second value, given the first: the mean of its distribution function is 1/2.
    view = (drawn / 255.0).astype("float32").reshape(2000, 1, 2, 1)
    logits = np.array(model._logits(model.network(view)), "float64")[:, 0, 1, 0]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    place = np.arange(2000), drawn[:, 1]
    below = np.cumsum(p, axis=-1)[place] - p[place] * RNG.random(2000)
    assert stats.kstest(below, "uniform").pvalue > 1e-3


def test_features_are_those_of_the_middle_layer():
    model, x = make(), images(3, SHAPE)
    first = model.network.get_layer("scaled")(x / np.float32(255))
    maps = model.network.get_layer("lstm_1")(model.network.get_layer("first")(first))
    np.testing.assert_allclose(model.encode(x), np.mean(maps, axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lstm": "grid"}, "`lstm` must be one of.*'grid'"),
        ({"units": 2}, "`units` and `hidden`.*3 colours.*units=2"),
        ({"hidden": 2}, "`units` and `hidden`.*hidden=2"),
        ({"depth": 0}, "`depth` must be >= 1.*0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelRNN(SHAPE, **arguments)
