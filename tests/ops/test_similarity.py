import keras
import numpy as np
import pytest
from keras import ops as kops

from keras_ssl import ops

rng = np.random.default_rng(0)


def test_vectors_become_unit_vectors_of_the_same_direction():
    x = rng.normal(size=(2, 7, 5)).astype("float32")
    y = kops.convert_to_numpy(ops.l2_normalize(x))
    np.testing.assert_allclose(y, x / np.linalg.norm(x, axis=-1, keepdims=True), rtol=1e-6)


def test_scale_does_not_matter():
    x = rng.normal(size=(4, 5)).astype("float32")
    np.testing.assert_allclose(ops.l2_normalize(x), ops.l2_normalize(1000 * x), rtol=1e-5)


def test_a_zero_vector_stays_zero():
    np.testing.assert_array_equal(ops.l2_normalize(np.zeros((2, 3), "float32")), 0.0)


def test_half_precision_is_computed_in_float32():
    x = kops.cast([[300.0, 400.0]], "float16")  # 400 ** 2 is beyond float16
    y = ops.l2_normalize(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_allclose(y, [[0.6, 0.8]], rtol=1e-6)


def test_epsilon_must_be_positive():
    with pytest.raises(ValueError, match="`epsilon`"):
        ops.l2_normalize(np.ones((1, 2), "float32"), epsilon=0)
