"""Barlow Twins' and VICReg's losses: reference values, closed forms, invariances."""

import keras
import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import barlow_twins, vicreg


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pair(rng, batch=12, dim=5):
    z1 = rng.normal(size=(batch, dim))
    return z1.astype("float32"), (z1 + 0.5 * rng.normal(size=z1.shape)).astype("float32")


def white(batch=16, dim=5, seed=0):
    """Columns of mean 0 and unbiased variance 1 without covariances."""
    x = np.random.default_rng(seed).normal(size=(batch, dim))
    q = np.linalg.qr(x - x.mean(0))[0]
    return (q * np.sqrt(batch - 1)).astype("float32")


def both(name, *arrays, **weights):
    return float({"barlow_twins": barlow_twins, "vicreg": vicreg}[name](*arrays, **weights))


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_golden(goldens, name):
    data = np.load(goldens / f"{name}.npz")
    weights = {k.removeprefix("param_"): float(v) for k, v in data.items() if "param_" in k}
    function = {"barlow_twins": barlow_twins, "vicreg": vicreg}[name]
    value, grads = gradients(lambda a, b: function(a, b, **weights), data["in_z1"], data["in_z2"])
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    for grad, which in zip(grads, ("grad_z1", "grad_z2")):
        scale = np.abs(data[which]).max()
        np.testing.assert_allclose(grad, data[which], rtol=1e-3, atol=1e-4 * scale)


# barlow_twins


def test_barlow_twins_is_its_equation(rng):
    z1, z2 = (z.astype("float64") for z in pair(rng))
    n, d = z1.shape
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = np.mean((z1[:, i] - z1[:, i].mean()) * (z2[:, j] - z2[:, j].mean()))
            c /= np.sqrt((z1[:, i].var() + 1e-5) * (z2[:, j].var() + 1e-5))
            total += (1 - c) ** 2 if i == j else 0.2 * c**2
    assert both("barlow_twins", z1, z2, off_diagonal_weight=0.2) == pytest.approx(total, rel=1e-5)


def test_barlow_twins_closed_forms():
    z, d = white(), 5
    assert both("barlow_twins", z, z) == pytest.approx(0, abs=1e-6)
    assert both("barlow_twins", z, -z) == pytest.approx(4 * d, rel=1e-4)
    constant = np.ones((16, d), "float32")
    assert both("barlow_twins", constant, constant) == pytest.approx(d, rel=1e-6)
    same = np.repeat(z[:, :1], d, axis=1)
    value = both("barlow_twins", same, same, off_diagonal_weight=0.3)
    assert value == pytest.approx(0.3 * d * (d - 1), rel=1e-4)


def test_barlow_twins_invariances(rng):
    z1, z2 = (100 * z for z in pair(rng))  # the 1e-5 beside the variance has no weight
    value = both("barlow_twins", z1, z2, off_diagonal_weight=0.5)
    dims, rows = rng.permutation(5), rng.permutation(12)
    scale, shift = rng.uniform(0.5, 2, 5), rng.normal(size=5)
    for other in [
        (z2, z1),
        (z1 * scale + shift, z2),
        (z1[:, dims], z2[:, dims]),
        (z1[rows], z2[rows]),
    ]:
        assert both("barlow_twins", *other, off_diagonal_weight=0.5) == pytest.approx(
            value, rel=1e-5
        )
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    for other in [(z1 @ rotation, z2 @ rotation), (z1[:, dims], z2), (z1[rows], z2)]:
        changed = both("barlow_twins", *other, off_diagonal_weight=0.5)
        assert abs(changed - value) > 0.01 * value


# vicreg


def test_vicreg_is_its_equation(rng):
    z1, z2 = (0.7 * z.astype("float64") for z in pair(rng))
    expected = 3 * np.mean((z1 - z2) ** 2)
    for z in (z1, z2):
        covariance = np.cov(z.T)
        std = np.sqrt(np.diag(covariance) + 1e-4)
        off = covariance - np.diag(np.diag(covariance))
        expected += 5 * np.maximum(0, 1 - std).mean() / 2 + 7 * (off**2).sum() / 5
    weights = {"invariance_weight": 3, "variance_weight": 5, "covariance_weight": 7}
    assert both("vicreg", z1, z2, **weights) == pytest.approx(expected, rel=1e-5)


def test_vicreg_closed_forms():
    constant, z, d = np.full((8, 5), 3, "float32"), white(), 5
    assert both("vicreg", constant, constant) == pytest.approx(24.75, rel=1e-6)
    assert both("vicreg", z, z) == pytest.approx(0, abs=1e-6)
    same = np.repeat(z[:, :1], d, axis=1)
    assert both("vicreg", same, same) == pytest.approx(2 * (d - 1), rel=1e-4)
    only = {"invariance_weight": 1, "variance_weight": 0, "covariance_weight": 0}
    assert both("vicreg", z, z + 2, **only) == pytest.approx(4, rel=1e-5)


def test_vicreg_invariances(rng):
    z1, z2 = pair(rng)
    value = both("vicreg", z1, z2)
    dims, rows = rng.permutation(5), rng.permutation(12)
    for other in [(z2, z1), (z1[:, dims], z2[:, dims]), (z1[rows], z2[rows]), (z1 + 3, z2 + 3)]:
        assert both("vicreg", *other) == pytest.approx(value, rel=1e-4)
    spread = {"invariance_weight": 0}
    shifted = both("vicreg", z1 + 3, z2 - 1, **spread)
    assert shifted == pytest.approx(both("vicreg", z1, z2, **spread), rel=1e-4)
    covariance = {"invariance_weight": 0, "variance_weight": 0}
    doubled = both("vicreg", 2 * z1, 2 * z2, **covariance)
    assert doubled == pytest.approx(16 * both("vicreg", z1, z2, **covariance), rel=1e-4)


# both


@pytest.mark.parametrize("function", [barlow_twins, vicreg])
def test_gradients_at_collapse_are_finite(function):
    z = np.ones((4, 3), "float32")
    _, grads = gradients(function, z, z)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", [barlow_twins, vicreg])
def test_half_precision_inputs_give_a_float32_loss(rng, function, dtype):
    z1, z2 = (ops.cast(100 * z, dtype) for z in pair(rng, batch=64))
    value = function(z1, z2)
    full = function(ops.cast(z1, "float32"), ops.cast(z2, "float32"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32" and np.isfinite(float(value))
    np.testing.assert_allclose(value, full, rtol=1e-5)


def test_wrong_arguments():
    z = np.ones((4, 3), "float32")
    with pytest.raises(ValueError, match="`off_diagonal_weight` must be >= 0.*-1"):
        barlow_twins(z, z, -1)
    for name in ("invariance_weight", "variance_weight", "covariance_weight"):
        with pytest.raises(ValueError, match=f"`{name}` must be >= 0.*nan"):
            vicreg(z, z, **{name: float("nan")})
    for function in (barlow_twins, vicreg):
        with pytest.raises(ValueError, match="`z1` and `z2`"):
            function(z, z[:2])
