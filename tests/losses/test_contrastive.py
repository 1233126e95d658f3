import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.losses import (
    decoupled_contrastive,
    info_nce,
    inter_view_nce,
    nt_xent,
    supervised_contrastive,
)


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


# decoupled_contrastive


def _rows(z1, z2, temperature):
    """Terms of DCL by row, in float64: of the negatives, and of the positive."""
    z = np.concatenate([z1, z2]).astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    logits, n = z @ z.T / temperature, len(z1)
    others = [[logits[i, j] for j in range(2 * n) if j % n != i % n] for i in range(2 * n)]
    negatives = np.array([np.log(np.sum(np.exp(row))) for row in others])
    return negatives, np.array([logits[i, (i + n) % (2 * n)] for i in range(2 * n)])


def test_decoupled_golden(goldens):
    data = np.load(goldens / "decoupled_contrastive.npz")
    temperature = float(data["param_temperature"])
    value, grads = gradients(
        lambda a, b: decoupled_contrastive(a, b, temperature), data["in_z1"], data["in_z2"]
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(grads[0], data["grad_z1"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(grads[1], data["grad_z2"], rtol=1e-3, atol=1e-6)


def test_decoupled_equals_the_equation_and_nt_xent_is_its_softplus(rng):
    z1, z2 = _pair(rng)
    negatives, positives = _rows(z1, z2, 0.2)
    terms = negatives - positives
    np.testing.assert_allclose(decoupled_contrastive(z1, z2, 0.2), np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(nt_xent(z1, z2, 0.2), np.mean(np.logaddexp(0, terms)), rtol=1e-5)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_decoupled_closed_forms(sigma):
    n, t = 5, 0.3
    same, apart = np.ones((n, 4), "float32"), np.eye(n, 8, dtype="float32")
    loss = decoupled_contrastive(same, same, t, sigma) + 1 / t  # what the equal logits cancel
    np.testing.assert_allclose(loss, math.log(2 * n - 2) + 1 / t, rtol=1e-5)
    expected = math.log(2 * n - 2) - 1 / t
    np.testing.assert_allclose(decoupled_contrastive(apart, apart, t, sigma), expected, rtol=1e-5)
    assert expected < 0


def test_decoupled_weights_average_one_and_carry_no_gradient(rng):
    z1, z2 = _pair(rng)
    negatives, positives = _rows(z1, z2, 1.0)
    cosines, t, sigma = positives[:6], 0.2, 0.5
    weights = 2 - 6 * np.exp(cosines / sigma) / np.sum(np.exp(cosines / sigma))
    assert np.mean(weights) == pytest.approx(1) and np.argmax(weights) == np.argmin(cosines)
    plain = _rows(z1, z2, t)[0]
    value, (weighted, _) = gradients(lambda a, b: decoupled_contrastive(a, b, t, sigma), z1, z2)
    np.testing.assert_allclose(value, np.mean(plain) - np.mean(weights * cosines) / t, rtol=1e-4)

    def fixed(a, b):
        """The same with the weights as constants: DCL, and what the weights change."""
        a_unit, b_unit = (x / ops.sqrt(ops.sum(x * x, -1, keepdims=True)) for x in (a, b))
        extra = ops.sum((weights - 1).astype("float32") * ops.sum(a_unit * b_unit, axis=-1))
        return decoupled_contrastive(a, b, t) - extra / (6 * t)

    np.testing.assert_allclose(weighted, gradients(fixed, z1, z2)[1][0], rtol=1e-3, atol=1e-5)


def test_decoupled_pull_does_not_fade_where_that_of_nt_xent_does():
    """Along the arc between close views, the pull is 1/t; NT-Xent's has nearly vanished."""
    n, t, angle = 4, 0.1, 0.3
    z1 = np.eye(n, 2 * n, dtype="float32")
    z2 = (math.cos(angle) * z1 + math.sin(angle) * np.eye(n, 2 * n, k=n)).astype("float32")
    pulls = []
    for loss in (decoupled_contrastive, nt_xent):
        _, (_, grad) = gradients(lambda a, b, loss=loss: loss(a, b, t), z1, z2)
        pulls.append(n * np.sum(grad * np.eye(n, 2 * n, k=n), axis=1) / math.cos(angle))
    np.testing.assert_allclose(pulls[0], math.tan(angle) * math.cos(angle) / t, rtol=1e-4)
    assert np.all(np.abs(pulls[1]) < 0.05 * pulls[0])


def test_decoupled_invariances(rng):
    z1, z2 = _pair(rng)
    order = rng.permutation(len(z1))
    for sigma in (None, 0.5):
        value = float(decoupled_contrastive(z1, z2, 0.2, sigma))
        for other in [(z2, z1), (z1[order], z2[order]), (3 * z1, z2)]:
            np.testing.assert_allclose(decoupled_contrastive(*other, 0.2, sigma), value, rtol=1e-5)


# supervised_contrastive


def _supervised_loop(z, labels, temperature):
    """L_out and L_in (the mean over positives inside the logarithm), in float64."""
    z = z.astype("float64") / np.linalg.norm(z, axis=1, keepdims=True)
    outside, inside = [], []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        total = sum(math.exp(z[i] @ z[j] / temperature) for j in others)
        shares = [
            math.exp(z[i] @ z[j] / temperature) / total for j in others if labels[j] == labels[i]
        ]
        outside.append(-np.mean(np.log(shares)) if shares else 0.0)
        inside.append(-np.log(np.mean(shares)) if shares else 0.0)
    return np.mean(outside), np.mean(inside)


def test_supervised_golden(goldens):
    data = np.load(goldens / "supervised_contrastive.npz")
    temperature, labels = float(data["param_temperature"]), data["in_labels"]
    value, (grad,) = gradients(
        lambda z: supervised_contrastive(z, labels, temperature), data["in_z"]
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(grad, data["grad_z"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 0, 2, 2], [5, 5, 5, 1, 1, 2, 3, 4]])
def test_supervised_equals_the_equation(rng, labels):
    """Also where labels occur once: these rows add nothing but count."""
    z, labels = rng.normal(size=(8, 5)).astype("float32"), np.array(labels)
    outside, inside = _supervised_loop(z, labels, 0.2)
    np.testing.assert_allclose(supervised_contrastive(z, labels, 0.2), outside, rtol=1e-5)
    assert outside > inside + 1e-3  # Jensen: the form inside the logarithm is another loss


def test_supervised_with_labels_of_images_is_nt_xent(rng):
    z1, z2 = _pair(rng)
    labels = np.tile(rng.permutation(6), 2)
    value = supervised_contrastive(np.concatenate([z1, z2]), labels, 0.2)
    np.testing.assert_allclose(value, nt_xent(z1, z2, 0.2), rtol=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2]])
def test_supervised_at_collapse(labels):
    value = supervised_contrastive(np.ones((6, 4), "float32"), np.array(labels), 0.1)
    np.testing.assert_allclose(value, math.log(5), rtol=1e-5)


def test_supervised_of_one_class_is_at_least_the_logarithm(rng):
    """The form with the sum inside the logarithm would be 0 here."""
    labels = np.zeros(8, "int64")
    z = rng.normal(size=(8, 5)).astype("float32")
    assert float(supervised_contrastive(z, labels, 0.2)) > math.log(7) + 1e-2
    simplex = np.eye(8, dtype="float32")  # all similarities equal
    np.testing.assert_allclose(supervised_contrastive(simplex, labels, 0.2), math.log(7), rtol=1e-5)


def test_supervised_invariances(rng):
    z, labels = rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)
    value = float(supervised_contrastive(z, labels, 0.2))
    order, names = rng.permutation(8), np.array([7, -1, 40])
    for other in [(z[order], labels[order]), (z, names[labels])]:
        np.testing.assert_allclose(supervised_contrastive(*other, 0.2), value, rtol=1e-5)
    _, (grad,) = gradients(lambda x: supervised_contrastive(x, labels, 0.2), z)
    np.testing.assert_allclose(np.sum(grad * z, axis=1), 0, atol=1e-6)


# inter_view_nce


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_inter_view_equals_the_equation(rng, temperature):
    a, c = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in _pair(rng).astype("float64"))
    shares = np.exp(a @ c.T / temperature)
    expected = -np.mean(np.log(np.diag(shares) / shares.sum(axis=1)))
    value = inter_view_nce((3 * a).astype("float32"), c.astype("float32"), temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_inter_view_closed_forms(rng):
    a, _ = _pair(rng)
    np.testing.assert_allclose(inter_view_nce(a, np.ones_like(a), 0.1), math.log(6), rtol=1e-5)
    z, n, t = np.eye(5, 8, dtype="float32"), 5, 0.3
    expected = math.log(1 + (n - 1) * math.exp(-1 / t))  # n - 1 negatives, SimCLR has 2n - 2
    np.testing.assert_allclose(inter_view_nce(z, z, t), expected, rtol=1e-5)


def test_inter_view_with_equal_anchors_cannot_be_solved(rng):
    _, c = _pair(rng)
    for scale in (0.0, 1.0, 10.0):
        anchors = np.tile(np.eye(1, 5, dtype="float32"), (6, 1))
        loss = float(inter_view_nce(anchors, anchors + scale * c, 0.1))
        assert loss >= math.log(6) - 1e-5 and (scale == 0 or loss > math.log(6) + 1e-3)


# errors


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperature_must_be_positive(temperature):
    z = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        nt_xent(z, z, temperature)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        info_nce(z, z, z, temperature)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        decoupled_contrastive(z, z, temperature)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        supervised_contrastive(z, np.zeros(2, "int64"), temperature)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        inter_view_nce(z, z, temperature)


@pytest.mark.parametrize("sigma", [0, -1.0])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(ValueError, match="`sigma` must be > 0"):
        decoupled_contrastive(np.ones((2, 3)), np.ones((2, 3)), sigma=sigma)


def test_one_image_has_no_negatives():
    z = np.ones((1, 3), "float32")
    with pytest.raises(ValueError, match="at least 2 images.*no negatives"):
        decoupled_contrastive(z, z)
    with pytest.raises(ValueError, match="at least 2 rows"):
        supervised_contrastive(z, np.zeros(1, "int64"))


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
    with pytest.raises(ValueError, match="`z1` and `z2`"):
        decoupled_contrastive(z, z[:1])
    with pytest.raises(ValueError, match="`anchors` and `candidates`"):
        inter_view_nce(z, z[:1])
    for labels in (np.zeros(3, "int64"), np.eye(2)):
        with pytest.raises(ValueError, match="`z` and `labels`.*one-hot"):
            supervised_contrastive(z, labels)
