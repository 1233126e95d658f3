import math

import keras
import numpy as np
import pytest
from toys import images

from keras_ssl import data
from keras_ssl.layers.flows import ActNorm, Whitening
from keras_ssl.methods.nice import NICE

SHAPE = (2, 2, 3)


def test_first_likelihood_is_that_of_the_prior():
    """Before its start the flow is the identity on 2 y - 1."""
    for prior in ("logistic", "normal"):
        model, x = NICE(SHAPE, width=4, prior=prior), images(5, SHAPE)
        u = np.array(keras.random.uniform((5, *SHAPE), seed=0))
        v = 2 * (x + u) / 256 - 1
        density = np.log(1 / (4 * np.cosh(v / 2) ** 2))  # of the logistic, another way
        if prior == "normal":
            density = -(v**2) / 2 - math.log(2 * math.pi) / 2
        nats = density.sum((1, 2, 3)) - 12 * math.log(128)
        np.testing.assert_allclose(model.log_prob(x), nats, rtol=1e-5)


def test_volume_is_that_of_the_scales_alone():
    """Couplings have determinant 1, so log |det| is the sum of s_d, the same for all images."""
    model = NICE(SHAPE, width=4)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).standard_normal(variable.shape))
    _, log_det = model.flow(np.random.default_rng(1).random((4, *SHAPE)).astype("float32"))
    last = model.flow.steps[-1]
    assert isinstance(last, ActNorm) and last.center is False
    expected = 12 * math.log(2) + 3 * np.array(last.log_scale).sum()
    np.testing.assert_allclose(log_det, np.full(4, expected), rtol=1e-5)


def test_neighbours_lie_in_both_halves():
    """Values are halved in turns, along colours and pixels."""
    model = NICE(SHAPE, width=4)
    flips = [step.flip for step in model.flow.steps if hasattr(step, "network")]
    assert flips == [False, True, False, True]
    x = np.zeros((1, *SHAPE), "float32")
    x[0, 0, 0, 1] = 1  # value 1: the second half
    z = np.array(model.flow(x)[0])
    assert np.argmax(z) == 1


def test_samples_have_the_priors_spread():
    """z of an untrained flow is 2 y - 1: quantiles of what is in range are those of the prior."""
    model = NICE(SHAPE, width=4)
    drawn = np.array(model.flow(np.array(model.sample(4000)))[0])
    inside = np.abs(drawn) < 0.95
    p = 1 / (1 + np.exp(-0.95))
    assert inside.mean() == pytest.approx(2 * p - 1, abs=0.02)


def test_start_of_scales():
    model = NICE(SHAPE, width=4)
    model.begin_epoch(data.load(images(64, SHAPE) // 8))  # dark images
    z = np.array(model.flow((images(64, SHAPE) // 8 + 0.5) / np.float32(256))[0])
    np.testing.assert_allclose(z.std(axis=0), 1, atol=0.1)


def test_whitened_from_all_images_and_their_mirror_images():
    """z of them, before couplings learn, is uncorrelated up to the scales."""
    x = np.concatenate([images(400, SHAPE)[:, :, :1], images(400, SHAPE, seed=1)[:, :, :1] // 4], 2)
    model = NICE(SHAPE, width=4, whitening=True)
    assert isinstance(model.flow.steps[2], Whitening)
    model.begin_epoch(data.load(x))
    both = np.concatenate([x, x[:, :, ::-1]])
    noise = np.random.default_rng(0).random(both.shape)
    z = np.array(model.flow(((both + noise) / 256).astype("float32"))[0])
    np.testing.assert_allclose(np.corrcoef(z.T), np.eye(12), atol=0.02)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.02)


def test_errors():
    with pytest.raises(ValueError, match="must be even. Received: input_shape=.3, 3, 1"):
        NICE((3, 3, 1))
    with pytest.raises(ValueError, match="`num_couplings` must be >= 2"):
        NICE(SHAPE, num_couplings=1)
    with pytest.raises(ValueError, match="`depth` must be >= 1"):
        NICE(SHAPE, depth=0)
    with pytest.raises(ValueError, match="`prior` must be one of.*'cauchy'"):
        NICE(SHAPE, prior="cauchy")
