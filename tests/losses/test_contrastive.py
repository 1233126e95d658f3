import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.losses import info_nce, nt_xent


def gradients(function, *arrays):
    """Value of a scalar `function` and its gradients for all `arrays`, on any backend."""
    if keras.backend.backend() == "jax":
        import jax

        places = tuple(range(len(arrays)))
        value, grads = jax.value_and_grad(function, argnums=places)(*map(jax.numpy.asarray, arrays))
        return float(value), [np.asarray(grad) for grad in grads]
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    grads = tape.gradient(value, tensors, unconnected_gradients="zero")
    return float(value), [grad.numpy() for grad in grads]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _pair(rng, batch=6, dim=5):
    return rng.normal(size=(2, batch, dim)).astype("float32")


def _nt_xent_loop(z1, z2, temperature):
    """The equation, term by term, in float64."""
    z = np.concatenate([z1, z2]).astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total, rows = 0.0, len(z)
    for i in range(rows):
        positive = (i + rows // 2) % rows
        others = [math.exp(z[i] @ z[j] / temperature) for j in range(rows) if j != i]
        total += math.log(sum(others)) - z[i] @ z[positive] / temperature
    return total / rows


# nt_xent


def test_nt_xent_golden(goldens):
    data = np.load(goldens / "nt_xent.npz")
    temperature = float(data["param_temperature"])
    value, (grad1, grad2) = gradients(
        lambda a, b: nt_xent(a, b, temperature), data["in_z1"], data["in_z2"]
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(grad1, data["grad_z1"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(grad2, data["grad_z2"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_nt_xent_equals_the_equation(rng, temperature):
    z1, z2 = _pair(rng)
    expected = _nt_xent_loop(z1, z2, temperature)
    np.testing.assert_allclose(nt_xent(z1, z2, temperature), expected, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_nt_xent_at_collapse_is_log_of_the_candidates(batch):
    z = np.ones((batch, 4), "float32")
    np.testing.assert_allclose(nt_xent(z, z, 0.1), math.log(2 * batch - 1), rtol=1e-5, atol=1e-6)


def test_nt_xent_of_aligned_orthogonal_images():
    z, n, t = np.eye(5, 8, dtype="float32"), 5, 0.3
    expected = math.log(1 + (2 * n - 2) * math.exp(-1 / t))
    np.testing.assert_allclose(nt_xent(z, z, t), expected, rtol=1e-5)


def test_nt_xent_invariances(rng):
    z1, z2 = _pair(rng)
    value = float(nt_xent(z1, z2, 0.2))
    order = rng.permutation(len(z1))
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0].astype("float32")
    scale = rng.uniform(0.1, 10, size=(len(z1), 1)).astype("float32")
    for other in [
        (z2, z1),
        (z1[order], z2[order]),
        (z1 @ rotation, z2 @ rotation),
        (z1 * scale, z2),
    ]:
        np.testing.assert_allclose(nt_xent(*other, 0.2), value, rtol=1e-5)
    assert abs(float(nt_xent(z1, z2[np.roll(np.arange(len(z1)), 1)], 0.2)) - value) > 1e-2


def test_nt_xent_gradient_is_orthogonal_to_each_vector(rng):
    z1, z2 = _pair(rng)
    _, (grad, _) = gradients(lambda a, b: nt_xent(a, b, 0.2), z1, z2)
    np.testing.assert_allclose(np.sum(grad * z1, axis=1), 0, atol=1e-6)
    assert np.abs(grad).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_give_a_finite_float32_loss(rng, dtype):
    z1, z2 = (ops.cast(100 * z, dtype) for z in _pair(rng, batch=32))
    value = nt_xent(z1, z2, 0.01)
    full = nt_xent(ops.cast(z1, "float32"), ops.cast(z2, "float32"), 0.01)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    np.testing.assert_allclose(value, full, rtol=1e-6)


def test_nt_xent_gradient_is_finite_at_low_temperature_and_collapse():
    z = np.ones((4, 3), "float32")
    _, grads = gradients(lambda a, b: nt_xent(a, b, 0.001), z, z)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_zero_vectors_have_finite_gradients(rng):
    z1, z2 = _pair(rng)
    z1[0] = 0
    _, grads = gradients(lambda a, b: nt_xent(a, b, 0.5), z1, z2)
    assert all(np.isfinite(grad).all() for grad in grads)


# info_nce


def test_info_nce_golden(goldens):
    data = np.load(goldens / "info_nce_queue.npz")
    temperature = float(data["param_temperature"])
    value, (query, key, queue) = gradients(
        lambda q, k, negatives: info_nce(q, k, negatives, temperature),
        data["in_query"],
        data["in_key"],
        data["in_queue"],
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(query, data["grad_query"], rtol=1e-3, atol=1e-6)
    assert not key.any() and not queue.any()


def test_info_nce_with_all_vectors_equal():
    query, queue = np.ones((3, 4), "float32"), np.ones((10, 4), "float32")
    np.testing.assert_allclose(info_nce(query, query, queue), math.log(11), rtol=1e-5)


def test_info_nce_of_aligned_keys_and_an_orthogonal_queue():
    query = np.tile(np.eye(1, 4, dtype="float32"), (3, 1))
    queue = np.tile(np.eye(1, 4, k=2, dtype="float32"), (10, 1))
    expected = math.log(1 + 10 * math.exp(-1 / 0.2))
    np.testing.assert_allclose(info_nce(query, query, queue, 0.2), expected, rtol=1e-5)


def test_info_nce_does_not_depend_on_the_order_of_the_queue(rng):
    query, key = _pair(rng)
    queue = rng.normal(size=(9, 5)).astype("float32")
    value = info_nce(query, key, queue)
    np.testing.assert_allclose(info_nce(query, key, rng.permutation(queue)), value, rtol=1e-5)


def test_info_nce_ignores_the_other_keys_of_the_batch(rng):
    query, key = _pair(rng)
    queue = rng.normal(size=(9, 5)).astype("float32")
    rows = [float(info_nce(query[i : i + 1], key[i : i + 1], queue)) for i in range(len(query))]
    np.testing.assert_allclose(info_nce(query, key, queue), np.mean(rows), rtol=1e-5)


# errors


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperature_must_be_positive(temperature):
    z = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        nt_xent(z, z, temperature)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        info_nce(z, z, z, temperature)


def test_shapes_are_checked():
    z = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match="`z1` and `z2`"):
        nt_xent(z, z[:1])
    with pytest.raises(ValueError, match="`z1` and `z2`"):
        nt_xent(z[0], z[0])
    with pytest.raises(ValueError, match="`query` and `key`"):
        info_nce(z, z[:1], z)
    with pytest.raises(ValueError, match="`queue`.*Transpose"):
        info_nce(z, z, np.ones((3, 10), "float32"))
