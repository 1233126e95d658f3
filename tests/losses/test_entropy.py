"""KoLeo: golden value, its bounds, what does not change it."""

import math

import numpy as np
import pytest
from losses.test_contrastive import gradients

from keras_ssl.losses import koleo

rng = np.random.default_rng(0)


def test_golden(goldens):
    data = np.load(goldens / "koleo.npz")
    value, (gradient,) = gradients(koleo, data["in_x"])
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(gradient, data["grad_x"], rtol=1e-3, atol=1e-5)


def test_opposite_points_are_the_least_and_copies_are_finite():
    opposite = np.array([[3.0, 0], [-1, 0]], "float32")
    assert float(koleo(opposite)) == pytest.approx(-math.log(2), rel=1e-6)
    value, (gradient,) = gradients(koleo, np.ones((4, 3), "float32"))
    assert value == pytest.approx(-math.log(1e-8), rel=1e-5) and np.isfinite(gradient).all()


def test_it_is_minus_the_mean_log_distance_to_the_nearest():
    x = rng.normal(size=(20, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit, axis=-1) + 9 * np.eye(20)
    expected = -np.log(distances.min(axis=1)).mean()
    assert float(koleo(x.astype("float32"))) == pytest.approx(expected, rel=1e-4)


def test_rotations_lengths_and_order_change_nothing():
    x = rng.normal(size=(12, 6)).astype("float32")
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    other = rng.permutation(rng.uniform(0.5, 3, (12, 1)) * x) @ rotation
    assert float(koleo(other.astype("float32"))) == pytest.approx(float(koleo(x)), rel=1e-4)


def test_a_step_along_the_gradient_spreads_neighbours():
    x = rng.normal(size=(12, 6)).astype("float32")
    value, (gradient,) = gradients(koleo, x)
    assert float(koleo(x - 0.01 * gradient)) < value


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`x` must have shape \(N, D\), N > 1.*\(1, 4\)"):
        koleo(np.ones((1, 4), "float32"))
    with pytest.raises(ValueError, match=r"`x` must have shape.*Received: x.shape=\(3,\)"):
        koleo(np.ones(3, "float32"))
    with pytest.raises(ValueError, match="`epsilon` must be > 0. Received: epsilon=0"):
        koleo(np.ones((3, 4), "float32"), 0)
