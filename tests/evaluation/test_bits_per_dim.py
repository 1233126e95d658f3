import math

import keras
import numpy as np
import pytest

from keras_ssl import evaluation

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 4, 5, 3)).astype(np.uint8)
D = 4 * 5 * 3


def uniform(images):
    """Every 8-bit value is equally likely."""
    return -math.log(256.0) * keras.ops.ones(len(images)) * math.prod(images.shape[1:])


def test_a_uniform_model_needs_eight_bits():
    mean, error = evaluation.bits_per_dim(uniform, IMAGES)
    assert mean == pytest.approx(8.0, rel=1e-6) and error == pytest.approx(0.0, abs=1e-6)


def test_a_geometric_model_needs_its_entropy():
    """p(k) = 2^-(k+1): the code length of a grey value k is k + 1 bits."""
    images = RNG.geometric(0.5, (400, 4, 4, 1)).astype(np.uint8) - 1

    def log_prob(x):
        values = keras.ops.cast(x, "float32")
        return -math.log(2.0) * keras.ops.sum(values + 1.0, axis=(1, 2, 3))

    mean, error = evaluation.bits_per_dim(log_prob, images, batch_size=64)
    lengths = (images + 1.0).mean(axis=(1, 2, 3))
    assert mean == pytest.approx(lengths.mean(), rel=1e-6)
    assert error == pytest.approx(lengths.std(ddof=1) / 20, rel=1e-5)
    assert abs(mean - 2.0) < 4 * error  # the entropy of that distribution is two bits


@pytest.mark.parametrize("batch_size", [1, 8, 23, 64])
def test_batches_change_nothing(batch_size):
    def log_prob(x):
        assert len(x) <= batch_size
        return -keras.ops.sum(keras.ops.cast(x, "float32"), axis=(1, 2, 3))

    nats = IMAGES.astype(float).sum(axis=(1, 2, 3)) / (D * math.log(2))
    mean, error = evaluation.bits_per_dim(log_prob, IMAGES, batch_size)
    assert mean == pytest.approx(nats.mean(), rel=1e-6)
    assert error == pytest.approx(nats.std(ddof=1) / math.sqrt(23), rel=1e-4)


def test_what_is_not_finite_stays_so():
    impossible = lambda x: keras.ops.full((len(x),), -np.inf)  # noqa: E731
    assert evaluation.bits_per_dim(impossible, IMAGES)[0] == np.inf
    mean, error = evaluation.bits_per_dim(uniform, IMAGES[:1])
    assert mean == pytest.approx(8.0) and np.isnan(error)


def test_errors_say_what_is_wrong():
    per_pixel = lambda x: keras.ops.zeros(x.shape[:3])  # noqa: E731
    with pytest.raises(ValueError, match="one number an image. Received: shape \\(23, 4, 5\\)"):
        evaluation.bits_per_dim(per_pixel, IMAGES)
    with pytest.raises(ValueError, match="at least one image"):
        evaluation.bits_per_dim(uniform, IMAGES[:0])
