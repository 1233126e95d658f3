import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.layers.coupling_networks import (
    dense_network,
    glow_network,
    linear_network,
    residual_network,
)
from keras_ssl.layers.couplings import AdditiveCoupling, AffineCoupling, Seen, half_shapes, halve
from keras_ssl.layers.flows import (
    ActNorm,
    Chain,
    Flatten,
    Invertible1x1,
    Logit,
    MultiScale,
    Permutation,
    Rescale,
    Squeeze,
    Whitening,
)
from keras_ssl.layers.starting import starting

F64 = {"dtype": "float64"}
SHAPE = (4, 4, 4)


def coupling(kind, split="halves", flip=False, shape=SHAPE, dtype="float64"):
    """A coupling with a small network of random weights."""
    seen, moved = half_shapes(shape, split, flip)
    if kind == "additive":
        network = residual_network(seen, 4, 1, moved[-1], dtype)
        return AdditiveCoupling(network, split, flip, dtype=dtype)
    make = glow_network if kind == "sigmoid" else linear_network
    sizes = (4,) if kind == "sigmoid" else ()
    network = make(seen, *sizes, 2 * moved[-1], dtype)
    return AffineCoupling(network, split, flip, kind, dtype=dtype)


def two_levels(dtype="float64"):
    level = lambda: Chain([Squeeze(dtype=dtype), Invertible1x1(dtype=dtype)], dtype=dtype)  # noqa: E731
    return MultiScale([level(), level()], dtype=dtype)


def whitening(seed=3):
    layer, rng = Whitening(**F64), np.random.default_rng(seed)
    layer.build((None, 6))
    factors = rng.standard_normal((6, 6))
    layer.fit(rng.standard_normal(6), factors @ factors.T, 6)
    return layer


def dense_coupling():
    return AdditiveCoupling(dense_network(6, 5, 2, 6, "float64"), "alternating", **F64)


LAYERS = {
    "actnorm": (lambda: ActNorm(**F64), SHAPE),
    "actnorm without offset": (lambda: ActNorm(center=False, **F64), (12,)),
    "1x1": (lambda: Invertible1x1(**F64), SHAPE),
    "squeeze": (lambda: Squeeze(**F64), (4, 6, 2)),
    "permutation": (lambda: Permutation([2, 0, 3, 1], **F64), SHAPE),
    "rescale": (lambda: Rescale(-2.0, 0.5, **F64), (2, 3, 1)),
    "flatten": (lambda: Flatten(**F64), (2, 2, 3)),
    "logit": (lambda: Logit(0.05, **F64), (2, 2, 3)),
    "additive, alternating": (dense_coupling, (12,)),
    "additive, checkerboard": (lambda: coupling("additive", "checkerboard"), SHAPE),
    "tanh, checkerboard": (lambda: coupling("tanh", "checkerboard", True), SHAPE),
    "tanh, halves of odd channels": (lambda: coupling("tanh", shape=(3, 3, 3)), (3, 3, 3)),
    "sigmoid": (lambda: coupling("sigmoid", flip=True), SHAPE),
    "exp": (lambda: coupling("exp"), SHAPE),
    "chain": (lambda: Chain([ActNorm(**F64), coupling("tanh"), Squeeze(**F64)], **F64), SHAPE),
    "whitening": (whitening, (6,)),
    "levels": (two_levels, (4, 4, 3)),
}


def stirred(name, seed=0):
    """A layer of the table with random weights, and inputs in [0, 1]."""
    make, shape = LAYERS[name]
    keras.utils.set_random_seed(seed)
    layer, x = make(), np.random.default_rng(seed).random((3, *shape))
    layer(x)
    rng = np.random.default_rng(seed + 1)
    for variable in layer.trainable_variables:
        variable.assign_add(0.2 * rng.standard_normal(variable.shape))
    return layer, x


# --- The convention


@pytest.mark.parametrize("name", LAYERS)
def test_log_determinant_is_that_of_the_jacobian(name):
    layer, x = stirred(name)
    with tf.GradientTape() as tape:
        first = tf.constant(x[:1])
        tape.watch(first)
        y, log_det = layer(first)
    size = x[0].size
    jacobian = tape.jacobian(y, first).numpy().reshape(size, size)
    assert log_det.shape == (1,)
    assert float(log_det[0]) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_inverse(name):
    layer, x = stirred(name)
    y, log_det = layer(x)
    assert y.dtype == log_det.dtype == "float64" and tuple(log_det.shape) == (3,)
    assert np.prod(y.shape) == x.size
    np.testing.assert_allclose(layer.inverse(y), x, atol=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_config(name):
    """A layer made again from its config, with the weights of the first, is the same map."""
    layer, x = stirred(name)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    again(x)
    again.set_weights(layer.get_weights())
    for a, b in zip(layer(x), again(x)):
        np.testing.assert_array_equal(a, b)


def test_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    chain = Chain([ActNorm(), Invertible1x1(), coupling("sigmoid", dtype="float32")])
    y, log_det = chain(np.ones((2, *SHAPE), "float32"))
    assert y.dtype == log_det.dtype == "float32"
    assert {v.dtype for v in chain.weights} == {"float32"}


# --- Activation normalisation


def test_start_makes_channels_normal_layer_by_layer():
    """Each layer starts from what the ones before give after their own start."""
    first, last = ActNorm(**F64), ActNorm(**F64)
    chain = Chain([Rescale(5.0, 3.0, **F64), first, coupling("sigmoid"), last], **F64)
    x = np.random.default_rng(0).standard_normal((50, *SHAPE)) * [1, 2, 3, 4]
    with starting():
        y, _ = chain(x)
    np.testing.assert_allclose(y, chain(x)[0], atol=1e-12)
    for z in (y, first(5 * x + 3)[0]):
        np.testing.assert_allclose(np.mean(z, axis=(0, 1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(np.var(z, axis=(0, 1, 2)), 1, atol=1e-4)


def test_start_without_offset_and_without_data():
    x = np.random.default_rng(0).standard_normal((50, 6)) * 3 + 7
    scale, still = ActNorm(center=False, **F64), ActNorm(from_data=False, **F64)
    with starting():
        np.testing.assert_allclose(np.var(scale(x)[0], axis=0), 1, atol=1e-4)
        np.testing.assert_array_equal(still(x)[0], x)


def test_start_reaches_the_networks_of_couplings_and_no_other_call():
    layer = coupling("sigmoid", dtype="float32")
    x = np.random.default_rng(0).standard_normal((20, *SHAPE)).astype("float32")
    layer(x)
    assert not np.any(layer.network.layers[2].log_scale)
    with starting():
        layer(x)
    assert np.all(layer.network.layers[2].log_scale)
    weights = layer.get_weights()
    layer(2 * x)
    for old, new in zip(weights, layer.get_weights()):
        np.testing.assert_array_equal(old, new)


# --- Linear layers


def test_rotation_at_first():
    layer = Invertible1x1(**F64)
    layer.build((None, 2, 2, 7))
    y, log_det = layer(np.eye(7)[:, None, None])  # the rows of W, at one place
    w = np.array(y)[:, 0, 0]
    np.testing.assert_allclose(w @ w.T, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_rotations_follow_the_seed():
    def kernel(seed):
        keras.utils.set_random_seed(seed)
        layer = Invertible1x1()
        layer.build((None, 2, 2, 4))
        return np.array(layer.lower)

    np.testing.assert_array_equal(kernel(0), kernel(0))
    assert np.abs(kernel(0) - kernel(1)).max() > 0.01


def test_whitening():
    """Variables become uncorrelated, by a symmetric map; pooled eigenvalues keep their sum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4)) + 3.0
    mean, covariance = x.mean(axis=0), np.cov(x.T, bias=True)
    layer = Whitening(**F64)
    layer.build((None, 4))
    np.testing.assert_array_equal(layer(x)[0], x)
    layer.fit(mean, covariance, rank=4)
    np.testing.assert_allclose(np.cov(np.array(layer(x)[0]).T, bias=True), np.eye(4), atol=1e-10)
    matrix = np.array(layer(np.eye(4) + mean)[0])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    layer.fit(mean, covariance, rank=1)
    eigenvalues = np.linalg.eigvalsh(covariance)
    expected = [*[eigenvalues[:3].mean()] * 3, eigenvalues[3]]
    np.testing.assert_allclose(np.array(layer.scale) ** -2.0, expected)


def test_squeeze_order():
    """Channel-major: the four places of a channel lie side by side."""
    y, _ = Squeeze()(np.arange(12.0, dtype="float32").reshape(1, 2, 2, 3))
    assert np.array(y).ravel().tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


def test_levels_keep_the_first_half():
    """The second half of level 1 leaves first, untouched by level 2."""
    levels, x = stirred("levels")
    inner, _ = levels.levels[0](x)
    z, _ = levels(x)
    np.testing.assert_array_equal(z[:, :24], np.array(inner)[..., 6:].reshape(3, -1))


@pytest.mark.parametrize("accelerators", [[], ["GPU:0"]])
def test_products_that_are_inverted_have_all_bits(accelerators, monkeypatch):
    monkeypatch.setattr(distribute, "_accelerators", lambda: accelerators)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype("float32") for shape in ((5, 7), (7, 3)))
    y = distribute.matmul_float32(tf.constant(x), tf.constant(w))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, x.astype("float64") @ w, atol=2e-6)


# --- Couplings


@pytest.mark.parametrize("split", ["halves", "alternating", "checkerboard"])
@pytest.mark.parametrize("flip", [False, True])
def test_halves_are_parts_and_what_is_seen_stays(split, flip):
    layer = coupling("tanh", split, flip)
    layer.build((None, *SHAPE))
    for variable in layer.trainable_variables:
        variable.assign_add(0.3 * np.random.default_rng(0).standard_normal(variable.shape))
    x = np.random.default_rng(1).standard_normal((2, *SHAPE))
    y, _ = layer(x)
    seen, moved = halve(x, split, flip)
    stayed, changed = halve(y, split, flip)
    np.testing.assert_array_equal(stayed, seen)
    np.testing.assert_array_equal(Seen(split, flip, **F64)(x), seen)
    assert np.count_nonzero(seen) == np.count_nonzero(moved) == x.size // 2
    assert np.count_nonzero(np.array(changed) - np.array(moved)) == x.size // 2
    assert (seen.shape[1:], moved.shape[1:]) == half_shapes(SHAPE, split, flip)


def test_checkerboard_starts_with_the_even_places():
    seen, _ = halve(np.ones((1, 2, 3, 1)), "checkerboard", False)
    assert np.array(seen)[0, ..., 0].tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("kind", ["additive", "tanh", "exp", "sigmoid"])
def test_first_scales(kind):
    """Networks give zeros at first: the identity, but Glow's scales are sigmoid(2)."""
    layer, x = coupling(kind), np.random.default_rng(0).random((2, *SHAPE))
    y, log_det = layer(x)
    scale = 1 / (1 + np.exp(-2)) if kind == "sigmoid" else 1.0
    expected = np.concatenate([x[..., :2], scale * x[..., 2:]], axis=-1)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(log_det, 32 * np.log(scale), atol=1e-12)


def test_exp_coupling_is_a_conditional_normal_prior():
    """log N(x_2; m, s) = log N(y_2; 0, 1) + log_det, with m = -t and s = exp(-r)."""
    layer, x = stirred("exp")
    y, log_det = layer(x)
    shift, raw = np.split(np.array(layer.network(x[..., :2])), 2, axis=-1)
    log_normal = lambda v: -0.5 * v**2 - 0.5 * np.log(2 * np.pi)  # noqa: E731
    direct = log_normal((x[..., 2:] + shift) / np.exp(-raw)) + raw
    ours = log_normal(np.array(y)[..., 2:]).sum((1, 2, 3)) + log_det
    np.testing.assert_allclose(ours, direct.sum((1, 2, 3)), atol=1e-10)


def test_errors():
    with pytest.raises(ValueError, match="even height and width. Received: maps of 3x4"):
        Squeeze().build((None, 3, 4, 1))
    with pytest.raises(ValueError, match="`order` must hold each number from 0 to 2"):
        Permutation([0, 2, 2])
    with pytest.raises(ValueError, match=r"`alpha` must be in \(0, 0.5\)"):
        Logit(0.5)
    with pytest.raises(ValueError, match="`scale` must not be 0"):
        Rescale(0.0)
    with pytest.raises(ValueError, match="even number of channels.*Received: 3"):
        MultiScale([Chain([ActNorm()]), Chain([ActNorm()])]).build((None, 2, 2, 3))
    with pytest.raises(ValueError, match="`split` must be one of.*'thirds'"):
        coupling("tanh", "thirds")
    with pytest.raises(ValueError, match="`scale` must be one of.*'cubic'"):
        coupling("cubic")
    wrong = AffineCoupling(linear_network((4, 4, 2), 5))
    with pytest.raises(ValueError, match=r"`network` must be from \(4, 4, 2\) to \(4, 4, 4\)"):
        wrong.build((None, 4, 4, 4))
    odd = AdditiveCoupling(dense_network(2, 2, 1, 3), "alternating")
    with pytest.raises(ValueError, match="even number of channels. Received: 5"):
        odd.build((None, 5))
