"""The coding rate: golden value, its two extremes, what does not change it."""

import math

import numpy as np
import pytest
from losses.test_contrastive import gradients

from keras_ssl.losses import coding_rate


def test_golden(goldens):
    data = np.load(goldens / "coding_rate.npz")
    value, (gradient,) = gradients(
        lambda z: coding_rate(z, float(data["param_epsilon"])), data["in_z"]
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(gradient, data["grad_z"], rtol=1e-3, atol=1e-5)


def test_most_where_vectors_spread_evenly_and_least_where_they_are_equal():
    width, epsilon = 8, 0.05
    even = np.tile(np.eye(width, dtype="float32"), (5, 1))
    np.testing.assert_allclose(
        coding_rate(even, epsilon), width / 2 * math.log(1 + 1 / epsilon), rtol=1e-5
    )
    same = np.tile(np.linspace(1, 2, width, dtype="float32"), (40, 1))
    np.testing.assert_allclose(
        coding_rate(same, epsilon), math.log(1 + width / epsilon) / 2, rtol=1e-4
    )
    other = np.random.default_rng(0).normal(size=(40, width)).astype("float32")
    found = float(coding_rate(other, epsilon))
    assert float(coding_rate(same, epsilon)) < found < float(coding_rate(even, epsilon))


def test_rotations_lengths_and_order_change_nothing():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(12, 6)).astype("float32")
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    lengths = rng.uniform(0.5, 3, (12, 1))
    other = (rng.permutation(lengths * z) @ rotation).astype("float32")
    np.testing.assert_allclose(coding_rate(other), coding_rate(z), rtol=1e-4)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`epsilon` must be > 0. Received: epsilon=0"):
        coding_rate(np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match=r"shape \(N, D\). Received: z.shape=\(3,\)"):
        coding_rate(np.zeros(3))
