import math

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from scipy.special import expit
from test_contrastive import gradients

from keras_ssl.losses import likelihood

GREYS = (np.arange(256) / 255).astype("float32")


def all_greys(mean, log_scale):
    """-log P of each grey value, as 256 images of one pixel."""
    shape = (256, 1)
    parameters = np.full(shape, mean, "float32"), np.full(shape, log_scale, "float32")
    return np.array(likelihood.discretized_logistic(GREYS[:, None], *parameters), "float64")


def logistic_table(mean, log_scale):
    """The same from the distribution function, in float64, each tail from its own side."""
    s = math.exp(log_scale)
    edges = (np.arange(255) + 0.5) * 2 / 255 - 1
    t = (edges - mean) / s
    below, above = np.concatenate([[0], expit(t), [1]]), np.concatenate([[1], expit(-t), [0]])
    return np.where(below[1:] < 0.5, np.diff(below), -np.diff(above))


def test_bernoulli_is_the_log_probability_of_bits():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (5, 3, 2, 1)).astype("float32")
    p = rng.uniform(0.05, 0.95, x.shape)
    logits = np.log(p / (1 - p)).astype("float32")
    expected = -np.log(np.where(x == 1, p, 1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(likelihood.bernoulli(x, logits), expected, rtol=1e-5)


def test_bernoulli_at_large_logits():
    x = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    logits = np.array([[300.0, -300.0], [300.0, -300.0]], "float32")
    np.testing.assert_allclose(likelihood.bernoulli(x, logits), [0.0, 600.0], atol=1e-6)
    # the gradient is sigmoid(logits) - x
    _, grads = gradients(lambda a: ops.sum(likelihood.bernoulli(x, a)), logits)
    np.testing.assert_allclose(grads[0], [[0.0, 0.0], [1.0, -1.0]], atol=1e-6)


def test_gaussian_integrates_to_one():
    grid = np.linspace(-6, 8, 20_001, dtype="float32")[:, None]
    for mean, log_scale in [(0.3, -1.0), (1.0, 0.2)]:
        nats = likelihood.gaussian(grid, np.full_like(grid, mean), np.float32(log_scale))
        density = np.exp(-np.array(nats, "float64"))
        assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-4)
        assert grid[density.argmax(), 0] == pytest.approx(mean, abs=1e-3)


def test_gaussian_with_one_scale_a_channel():
    rng = np.random.default_rng(0)
    x, m = rng.normal(size=(2, 4, 3, 2, 2)).astype("float32")
    log_scale = np.array([-0.5, 0.7], "float32")
    s = np.exp(log_scale.astype("float64"))
    expected = ((x - m) ** 2 / (2 * s**2) + np.log(s * math.sqrt(2 * math.pi))).sum((1, 2, 3))
    np.testing.assert_allclose(likelihood.gaussian(x, m, log_scale), expected, rtol=1e-5)


@pytest.mark.parametrize("mean", [-1.4, -1.0, -0.3, 0.0, 0.51, 1.0, 1.4])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 0.5])
def test_logistic_sums_to_one_and_equals_the_table(mean, log_scale):
    nats = all_greys(mean, log_scale)
    assert np.exp(-nats).sum() == pytest.approx(1, abs=2e-5)
    expected = logistic_table(mean, log_scale)
    np.testing.assert_allclose(
        nats[expected > 1e-30], -np.log(expected[expected > 1e-30]), rtol=2e-3, atol=2e-4
    )


def test_logistic_far_away_stays_exact():
    """Where a difference of sigmoids would be 0, the tail falls by one nat a scale."""
    s = math.exp(-7.0)
    nats = all_greys(-1.0, -7.0)
    np.testing.assert_allclose(np.diff(nats[2:255]), 2 / 255 / s, rtol=1e-4)
    assert np.isfinite(nats).all() and nats.max() > 2000


def test_logistic_rounds_to_the_grid_and_limits_the_scale():
    mean, log_scale = np.zeros((256, 1), "float32"), np.full((256, 1), -2.0, "float32")
    noise = np.random.default_rng(0).uniform(-0.45, 0.45, (256, 1)).astype("float32") / 255
    noisy = likelihood.discretized_logistic(GREYS[:, None] + noise, mean, log_scale)
    np.testing.assert_array_equal(noisy, all_greys(0.0, -2.0).astype("float32"))
    np.testing.assert_array_equal(all_greys(0.2, -9.0), all_greys(0.2, -7.0))


def test_logistic_gradient_is_finite_everywhere_and_pulls_towards_the_pixel():
    mean = np.full((256, 1), 3.0, "float32")
    for log_scale in (-7.0, 2.0):
        scales = np.full((256, 1), log_scale, "float32")
        _, grads = gradients(
            lambda m, s: ops.sum(likelihood.discretized_logistic(GREYS[:, None], m, s)),
            mean,
            scales,
        )
        assert all(np.isfinite(g).all() for g in grads)
        assert (grads[0][:255] > 0).all() and grads[0][255] <= 0  # white holds the tail


def test_a_very_wide_logistic_leaves_its_mass_to_the_edges():
    nats = all_greys(0.0, 6.0)
    assert nats[0] == pytest.approx(math.log(2), abs=1e-2) == nats[255]
    np.testing.assert_allclose(nats[1:255], nats[1], atol=1e-3)


def test_kl_against_monte_carlo():
    rng = np.random.default_rng(0)
    mean = np.array([[0.0, 0.0], [1.0, -0.5], [-2.0, 0.3]], "float32")
    log_variance = np.array([[0.0, 0.0], [-1.0, 0.8], [0.5, -3.0]], "float32")
    kl = np.array(likelihood.kl_standard_normal(mean, log_variance))
    eps = rng.standard_normal((400_000, 1, 2))
    z = mean + np.exp(log_variance / 2) * eps
    log_ratio = (-0.5 * eps**2 - log_variance / 2 + 0.5 * z**2).sum(-1)
    error = log_ratio.std(0) / math.sqrt(len(eps))
    assert (np.abs(log_ratio.mean(0) - kl) <= 4 * error + 1e-6).all()
    assert kl[0] == 0 and (kl[1:] > 0).all()


def test_kl_is_exact_near_the_prior():
    """log v = t: the divergence is t^2 / 4 to leading order, lost by exp(t) - 1 - t in float32."""
    t = np.array([[1e-3]], "float32")
    kl = float(likelihood.kl_standard_normal(np.zeros_like(t), t)[0])
    assert kl == pytest.approx(1e-6 / 4, rel=0.02)


def test_dequantised_gaussian_bounds_the_probability_of_grey_values():
    """E[-log p(y)] + log 256 >= -log integral of p over the bin, with near equality if smooth."""
    rng = np.random.default_rng(0)
    mean, scale = 0.4, 0.02
    k = np.array([90.0, 100.0, 103.0, 110.0])
    normal = np.vectorize(lambda t: 0.5 * (1 + math.erf((t - mean) / scale / math.sqrt(2))))
    exact = -np.log(normal((k + 1) / 256) - normal(k / 256))
    y = ((k[:, None] + rng.random((4, 20_000))) / 256).astype("float32")
    nats = likelihood.gaussian(y.reshape(-1, 1), np.full((80_000, 1), mean), math.log(scale))
    bound = np.array(nats).reshape(4, -1).mean(1) + math.log(256)
    assert (bound >= exact - 1e-3).all()
    np.testing.assert_allclose(bound, exact, atol=0.02)


def test_results_are_float32_a_number_an_image():
    x = np.full((3, 4, 4, 2), 0.5, "float32")
    half = ops.cast(x, "float16")
    for nats in (
        likelihood.bernoulli(half, half),
        likelihood.gaussian(half, half, half),
        likelihood.discretized_logistic(half, half, half),
        likelihood.kl_standard_normal(half, half),
    ):
        assert tuple(nats.shape) == (3,)
        assert keras.backend.standardize_dtype(nats.dtype) == "float32"


def test_shapes_must_agree():
    x = np.zeros((3, 4, 4, 3), "float32")
    for function in (likelihood.gaussian, likelihood.discretized_logistic):
        with pytest.raises(ValueError, match=r"`images` and `mean`.*\(3, 4, 4, 1\)"):
            function(x, x[..., :1], x)
    with pytest.raises(ValueError, match="`images` and `logits`"):
        likelihood.bernoulli(x, x[:1])
    with pytest.raises(ValueError, match="`mean` and `log_variance`"):
        likelihood.kl_standard_normal(x[:, 0, 0], x[:, 0])


def test_standard_densities():
    """Against scipy's; sums over dimensions, and far out no overflow."""
    z = np.random.default_rng(0).standard_normal((4, 3, 2)).astype("float32") * 3
    for loss, family in (
        (likelihood.standard_normal, scipy.stats.norm),
        (likelihood.standard_logistic, scipy.stats.logistic),
    ):
        expected = -family.logpdf(z.astype("float64")).sum((1, 2))
        np.testing.assert_allclose(loss(z), expected, rtol=1e-5)
        assert np.isfinite(loss(np.full((1, 1), 1e4, "float32"))).all()
