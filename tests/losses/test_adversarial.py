import math

import keras
import numpy as np
import pytest
from keras import ops
from test_contrastive import gradients

from keras_ssl.losses import discriminator_loss, joint_generator_loss


def test_undecided_discriminator():
    zeros = np.zeros((6, 1), "float32")
    assert float(discriminator_loss(zeros, zeros)) == pytest.approx(2 * math.log(2))
    assert float(joint_generator_loss(zeros, zeros)) == pytest.approx(2 * math.log(2))


def test_exchanged_labels_turn_one_loss_into_the_other():
    real, fake = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    ours, theirs = joint_generator_loss(real, fake), discriminator_loss(fake, real)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_cross_entropy_of_probabilities():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=7).astype("float32"), rng.normal(size=5).astype("float32")
    p, q = 1 / (1 + np.exp(-real.astype("float64"))), 1 / (1 + np.exp(-fake.astype("float64")))
    expected = -np.log(p).mean() - np.log(1 - q).mean()
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-5)


def test_best_discriminator_of_a_table_measures_jensen_shannon():
    """Pairs (x, z) of four kinds: at D = p / (p + q) the loss is ln 4 - 2 JSD."""
    p, q = np.array([0.5, 0.25, 0.25, 0.0]), np.array([0.25, 0.25, 0.25, 0.25])
    ratio = np.array([0.5 / 0.25, 1.0, 1.0, 1e-12], "float32")
    logits = np.log(ratio)
    real = np.repeat(logits, (p * 100).astype(int))
    fake = np.repeat(logits, (q * 100).astype(int))
    middle = (p + q) / 2

    def kl(a):
        return sum(a[i] * math.log(a[i] / middle[i]) for i in range(4) if a[i])

    expected = math.log(4) - (kl(p) + kl(q))
    best = float(discriminator_loss(real, fake))
    assert best == pytest.approx(expected, rel=1e-5)
    for shift in (-0.1, 0.1):
        assert float(discriminator_loss(real + shift, fake + shift)) > best


def test_generator_gradient_does_not_vanish_where_the_discriminator_wins():
    sure = np.full((4,), 20.0, "float32")
    _, (real, fake) = gradients(joint_generator_loss, sure, -sure)
    np.testing.assert_allclose(real, 0.25, rtol=1e-5)
    np.testing.assert_allclose(fake, -0.25, rtol=1e-5)
    _, (real, fake) = gradients(discriminator_loss, sure, -sure)
    np.testing.assert_allclose([real, fake], 0, atol=1e-6)


def test_float32_from_half_precision():
    half = ops.cast(np.array([9.0, -9.0], "float32"), "float16")
    for loss in (discriminator_loss, joint_generator_loss):
        value = loss(half, half)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert float(value) == pytest.approx(9 + 2 * math.log1p(math.exp(-9)), rel=1e-4)
