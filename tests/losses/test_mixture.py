"""The mixture of discretised logistics."""

import itertools

import numpy as np
import pytest
from keras import ops
from test_contrastive import gradients

from keras_ssl import losses
from keras_ssl.losses.likelihood import mixture_parameters


def parameters(*shape, seed=0, spread=1.0):
    return (spread * np.random.default_rng(seed).standard_normal(shape)).astype("float32")


def test_golden(goldens):
    data = np.load(goldens / "discretized_logistic_mixture.npz")
    images = data["in_images_uint8"].astype("float32") / 255
    found = losses.discretized_logistic_mixture(images, data["in_parameters"])
    np.testing.assert_allclose(found, data["out_nll_nats_per_pixel"], rtol=1e-4)


@pytest.mark.parametrize("channels, levels", [(3, 4), (3, 5), (1, 256)])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_probabilities_of_all_colours_sum_to_one(channels, levels, spread):
    """For any parameters: means beyond the ends, scales below the smallest, all coefficients."""
    colours = np.array(list(itertools.product(range(levels), repeat=channels)), "float32")
    numbers = {1: 3, 3: 10}[channels] * 4
    p = parameters(6, 1, numbers, spread=spread)
    images = np.broadcast_to(colours / (levels - 1), (6, *colours.shape))
    p = np.broadcast_to(p, (6, len(colours), numbers))
    nats = np.array(losses.discretized_logistic_mixture(images, p, levels), "float64")
    np.testing.assert_allclose(np.exp(-nats).sum(1), 1.0, atol=2e-5)


def test_one_component_without_coefficients_is_the_discretized_logistic():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3)) / 255
    means, scales = parameters(5, 4, 4, 3), parameters(5, 4, 4, 3) - 2
    parts = np.stack([means, scales, np.zeros_like(means)], axis=-1).reshape(5, 4, 4, 9)
    p = np.concatenate([np.full((5, 4, 4, 1), 7.0), parts], axis=-1)
    found = np.array(losses.discretized_logistic_mixture(images, p)).sum((1, 2))
    np.testing.assert_allclose(found, losses.discretized_logistic(images, means, scales), rtol=1e-5)


def test_coefficients_shift_the_means_of_later_colours():
    """Red moves green and blue, green moves blue; blue moves nothing."""
    p = np.zeros((1, 10), "float32")
    p[0, 2::3] = -4.0  # log-scales: narrow
    p[0, 3::3] = np.arctanh([0.5, -0.25, 0.75])  # green of red, blue of red, blue of green
    red, green = 0.8, -0.6
    x = np.array([red, 0.5 * red + 0.1, -0.25 * red + 0.75 * green]) / 2 + 0.5
    x[1] = (green + 1) / 2
    p[0, 1], p[0, 4] = red, green - 0.5 * red  # each colour lies at its mean
    nats = float(losses.discretized_logistic_mixture(x[None].astype("float32"), p)[0])
    for channel in range(3):
        moved = x.copy()
        moved[channel] += 0.2
        worse = losses.discretized_logistic_mixture(moved[None].astype("float32"), p)
        assert float(worse[0]) > nats + 2


def test_gradients_are_finite_everywhere():
    """Far from the mean, at both ends, with the narrowest and the widest scales."""
    images = np.array([[0, 0.5, 1.0]] * 5, "float32")
    p = np.zeros((5, 20), "float32")
    for row, (mean, scale) in enumerate([(50, -9), (-50, -7), (0, 40), (1e3, 2), (0, -30)]):
        p[row, 2:4] = p[row, 8:10] = p[row, 14:16] = mean
        p[row, 4:6] = p[row, 10:12] = p[row, 16:18] = scale
    nll = lambda x: ops.sum(losses.discretized_logistic_mixture(images, x))  # noqa: E731
    _, (found,) = gradients(nll, p)
    assert np.isfinite(found).all()
    assert np.isfinite(np.array(losses.discretized_logistic_mixture(images, p))).all()


def test_gradient_against_differences():
    images = np.array([[0.2, 0.6, 1.0], [0.0, 0.4, 0.8]], "float32")
    p = parameters(2, 20)
    nll = lambda x: ops.sum(losses.discretized_logistic_mixture(images, x))  # noqa: E731
    _, (found,) = gradients(nll, p)
    for i in range(0, 20, 3):
        step = np.zeros_like(p)
        step[0, i] = 1e-2
        slope = (float(nll(p + step)) - float(nll(p - step))) / 2e-2
        assert found[0, i] == pytest.approx(slope, abs=3e-3)


def test_errors():
    with pytest.raises(ValueError, match=r"10 numbers a component.*\(2, 25\), 3 colours"):
        mixture_parameters(np.zeros((2, 25)), 3)
    with pytest.raises(ValueError, match="2 colours. Convert the images"):
        losses.discretized_logistic_mixture(np.zeros((4, 2)), np.zeros((4, 20)))
