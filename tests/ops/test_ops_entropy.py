"""Entropies of assignments."""

import math

import numpy as np
import pytest

from keras_ssl.ops import mean_entropy, usage_entropy

CODES = np.random.default_rng(0).dirichlet(np.ones(8), 16).astype("float32")


def test_usage_entropy():
    assert float(usage_entropy(np.eye(8, dtype="float32"))) == pytest.approx(1)
    assert float(usage_entropy(np.eye(1, 8, dtype="float32"))) == pytest.approx(0, abs=1e-6)
    half = np.eye(8, dtype="float32")[[0, 1, 2, 3]]
    assert float(usage_entropy(half)) == pytest.approx(math.log(4) / math.log(8))
    assert float(usage_entropy(np.full((3, 8), 1 / 8, "float32"))) == pytest.approx(1)


def test_usage_of_one_prototype_is_refused():
    with pytest.raises(ValueError, match=r"`codes`.*K >= 2.*\(4, 1\)"):
        usage_entropy(np.ones((4, 1)))


def test_mean_entropy():
    expected = -np.mean(np.sum(CODES * np.log(CODES), axis=1))
    assert float(mean_entropy(CODES)) == pytest.approx(expected, rel=1e-5)
    assert float(mean_entropy(CODES.reshape(4, 4, 8))) == pytest.approx(expected, rel=1e-5)
    assert float(mean_entropy(np.eye(4, dtype="float32"))) == pytest.approx(0, abs=1e-6)
    assert float(mean_entropy([[0.5, 0.5, 0, 0]])) == pytest.approx(math.log(2))


def test_mean_entropy_is_at_most_that_of_the_mean():
    assert 0 < float(mean_entropy(CODES)) / math.log(8) < float(usage_entropy(CODES)) < 1
    same = np.repeat(CODES[:1], 4, axis=0)
    expected = math.log(8) * float(usage_entropy(same))
    assert float(mean_entropy(same)) == pytest.approx(expected, rel=1e-5)
