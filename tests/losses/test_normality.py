"""SIGReg and VISReg's terms: reference values, the authors' order of operations, theorems."""

import math
import statistics

import keras
import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import center_and_scale, sigreg, sliced_wasserstein
from keras_ssl.ops import draws

N, D, S = 64, 6, 40


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def unit(directions):
    return (directions / np.linalg.norm(directions, axis=0)).astype("float32")


def directions(rng, width=D, count=S):
    return unit(rng.normal(size=(width, count)))


def window(num_points=33, t_max=3.0):
    """Points of the whole trapezoid rule and their weights, window included."""
    t = np.linspace(-t_max, t_max, num_points)
    w = np.full(num_points, t[1] - t[0])
    w[[0, -1]] /= 2
    return t, w * np.exp(-(t**2) / 2)


def plain_sigreg(z, slices, knots=17):
    """In the authors' order: 17 points from 0 to 3, doubled weights, all views at once."""
    t = np.linspace(0, 3, knots)
    step = 3 / (knots - 1)
    weights = np.full(knots, 2 * step)
    weights[[0, -1]] = step
    normal = np.exp(-np.square(t) / 2)
    x_t = (z.astype("float64") @ slices)[..., None] * t
    error = np.square(np.cos(x_t).mean(-3) - normal) + np.square(np.sin(x_t).mean(-3))
    return (error @ (weights * normal) * z.shape[-2]).mean()


def plain_epps_pulley(z, slices):
    """In eb_jepa's order: ten points from -3 to 3, complex exponentials, no factor N."""
    t = np.linspace(-3, 3, 10)
    normal = np.exp(-0.5 * t**2)
    found = np.exp(1j * (z.astype("float64") @ slices)[..., None] * t).mean(0)
    return np.trapezoid(normal * np.abs(found - normal) ** 2, t, axis=1).mean()


def plain_visreg(z, slices, epsilon=1e-4):
    """Center, scale and shape in the authors' order, for all views at once."""
    z = z.astype("float64")
    mu = z.mean(1, keepdims=True)
    centered = z - mu
    std = np.linalg.norm(centered, axis=1) / math.sqrt(z.shape[1])
    ordered = np.sort(centered / (std + epsilon)[:, None] @ slices, axis=1)
    q = [statistics.NormalDist().inv_cdf((i + 1) / (z.shape[1] + 1)) for i in range(z.shape[1])]
    shape = np.square(ordered - np.array(q)[None, :, None]).mean()
    return np.square(mu).mean(), np.square(std - 1).mean(), shape


@pytest.mark.parametrize("name", ["sigreg", "sliced_wasserstein"])
def test_golden(goldens, name):
    data = np.load(goldens / f"{name}.npz")
    function = {"sigreg": sigreg, "sliced_wasserstein": sliced_wasserstein}[name]
    slices = unit(data["in_directions"])
    value, (grad,) = gradients(lambda z: function(z, slices), data["in_z"])
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    scale = np.abs(data["grad_z"]).max()
    np.testing.assert_allclose(grad, data["grad_z"], rtol=1e-3, atol=1e-4 * scale)


# sigreg


def test_sigreg_is_the_authors_for_one_view_and_many(rng):
    z, slices = rng.exponential(size=(3, N, D)).astype("float32"), directions(rng)
    assert float(sigreg(z, slices)) == pytest.approx(plain_sigreg(z, slices), rel=1e-5)
    alone = [float(sigreg(view, slices)) for view in z]
    assert float(sigreg(z, slices)) == pytest.approx(np.mean(alone), rel=1e-5)
    assert alone[0] == pytest.approx(plain_sigreg(z[0], slices), rel=1e-5)


def test_ten_points_without_the_factor_are_eb_jepas(rng):
    z, slices = rng.exponential(size=(N, D)).astype("float32"), directions(rng)
    value = float(sigreg(z, slices, num_points=10, scale_by_batch=False))
    assert value == pytest.approx(plain_epps_pulley(z, slices), rel=1e-5)
    assert value == pytest.approx(float(sigreg(z, slices)) / N, rel=0.01)  # the same integral


@pytest.mark.parametrize("num_points", [2, 3, 10, 33])
def test_the_gradient_is_that_of_the_equation(rng, num_points):
    """It is written out: automatic differentiation of the plain equation must agree."""
    z, slices = rng.normal(1, 2, size=(2, 9, D)).astype("float32"), directions(rng)
    t, w = window(num_points)

    def plain(z):
        x_t = ops.expand_dims(ops.matmul(z, slices), -1) * t.astype("float32")
        normal = np.exp(-(t**2) / 2).astype("float32")
        error = (ops.mean(ops.cos(x_t), axis=1) - normal) ** 2 + ops.mean(ops.sin(x_t), axis=1) ** 2
        return 9.0 * ops.mean(ops.sum(error * w.astype("float32"), axis=-1))

    expected, (grad,) = gradients(plain, z)
    value, (found,) = gradients(lambda z: sigreg(z, slices, num_points), z)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(found, grad, rtol=1e-3, atol=1e-4 * np.abs(grad).max())
    assert np.abs(found).max(axis=(1, 2)).min() > 1e-3  # into every view


@pytest.mark.parametrize(("n", "d", "batches"), [(8, 2, 4000), (300, 5, 400)])
def test_normal_samples_have_the_expected_statistic_whatever_their_number(rng, n, d, batches):
    t, w = window()
    expected = (w * (1 - np.exp(-(t**2)))).sum()
    assert expected == pytest.approx(1.05, abs=0.005)
    z = rng.normal(size=(batches, n, d)).astype("float32")  # batches in the place of views
    assert float(sigreg(z, directions(rng, d, 8))) == pytest.approx(expected, rel=0.07)


def test_no_scale_of_normal_samples_is_better_than_one(rng):
    z, slices = rng.normal(size=(2000, 4)).astype("float32"), directions(rng, 4)
    values = [float(sigreg(k * z, slices)) for k in (0.25, 0.5, 0.75, 1, 1.33, 2, 4)]
    assert values[:4] == sorted(values[:4], reverse=True) and values[3:] == sorted(values[3:])


def test_a_point_mass_costs_the_number_of_images(rng):
    t, w = window()
    expected = (w * (1 - np.exp(-(t**2) / 2)) ** 2).sum()
    assert expected == pytest.approx(0.40, abs=0.005)
    zero = np.zeros((50, D), "float32")
    value, (grad,) = gradients(lambda z: sigreg(z, directions(rng)), zero)
    assert float(value) == pytest.approx(50 * expected, rel=1e-5)
    assert not grad.any()  # the weakness that VISReg mends


def test_sigreg_invariances(rng):
    z, slices = rng.normal(0.3, 1.5, size=(N, D)).astype("float32"), directions(rng)
    value = float(sigreg(z, slices))
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0].astype("float32")
    turned = float(sigreg(z @ rotation, rotation.T @ slices))
    assert turned == pytest.approx(value, rel=1e-4)
    assert float(sigreg(rng.permutation(z), slices)) == pytest.approx(value, rel=1e-5)
    assert float(sigreg(-z, slices)) == pytest.approx(value, rel=1e-5)
    assert float(sigreg(z + 1, slices)) > 1.1 * value


# sliced_wasserstein, center_and_scale


def test_visregs_terms_are_the_authors(rng):
    z, slices = rng.exponential(2, size=(3, N, D)).astype("float32"), directions(rng)
    expected = plain_visreg(z, slices)
    found = [*map(float, center_and_scale(z)), float(sliced_wasserstein(z, slices))]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    alone = [[*center_and_scale(view), sliced_wasserstein(view, slices)] for view in z]
    np.testing.assert_allclose(np.mean(np.array(alone, "float32"), axis=0), found, rtol=1e-5)


def test_the_quantiles_themselves_are_perfect():
    """In one dimension, up to the quantiles' own spread, which standardisation takes away."""
    n = 101
    q = np.array([statistics.NormalDist().inv_cdf((i + 1) / (n + 1)) for i in range(n)])
    std = q.std()
    z, one = q[::-1, None].astype("float32"), np.ones((1, 1), "float32")
    shape = float(sliced_wasserstein(z, one))
    assert shape == pytest.approx((1 - std) ** 2, rel=0.02) and shape < 0.003
    center, scale = map(float, center_and_scale(z / std))
    assert center == pytest.approx(0, abs=1e-10) and scale == pytest.approx(0, abs=1e-10)


def test_position_and_scale_of_each_dimension_move_center_and_scale_alone(rng):
    z, slices = rng.normal(size=(N, D)).astype("float32"), directions(rng)
    shift = rng.normal(size=D).astype("float32")
    factor = rng.uniform(0.5, 2, D).astype("float32")
    moved = factor * z + shift
    shape = float(sliced_wasserstein(z, slices))
    assert float(sliced_wasserstein(moved, slices)) == pytest.approx(shape, rel=1e-3)
    found = np.array(center_and_scale(moved), "float32")
    expected = np.square(moved.mean(0)).mean(), np.square(moved.std(0) - 1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_scale_has_its_gradient_from_its_own_term_alone(rng):
    """Along z - mean, which changes the standard deviation and nothing else.

    The shape's gradient there is that of y = (z - mean) / std with a constant std.
    """
    z, slices = rng.normal(size=(N, D)).astype("float32"), directions(rng)
    std = z.std(0)
    _, (shape,) = gradients(lambda z: sliced_wasserstein(z, slices), z)

    def frozen(z):
        y = (z - ops.mean(z, axis=0)) / (std + 1e-4)
        q = [statistics.NormalDist().inv_cdf((i + 1) / (N + 1)) for i in range(N)]
        ordered = ops.sort(ops.matmul(y, slices), axis=0)
        return ops.mean((ordered - np.array(q, "float32")[:, None]) ** 2)

    _, (expected,) = gradients(frozen, z)
    np.testing.assert_allclose(shape, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(shape.sum(0), 0, atol=1e-6)  # a shift changes nothing
    _, (scale,) = gradients(lambda z: center_and_scale(z)[1], z)
    np.testing.assert_allclose(scale, 2 * (std - 1) / D * (z - z.mean(0)) / (N * std), atol=1e-6)


def test_near_collapse_the_scale_still_pulls_and_sigreg_does_not(rng):
    z, slices = rng.normal(size=(N, D)).astype("float32"), directions(rng)
    pull = []
    for factor in (1e-1, 1e-2, 1e-3):
        _, (scale,) = gradients(lambda z: center_and_scale(z)[1], factor * z)
        _, (tests,) = gradients(lambda z: sigreg(z, slices), factor * (z - z.mean(0)))
        pull.append((np.abs(scale).max(), np.abs(tests).max()))
    assert pull[2][0] > 0.9 * pull[0][0] and pull[2][1] < 0.05 * pull[0][1]


def test_collapse(rng):
    z, slices = np.full((N, D), 2, "float32"), directions(rng)
    center, scale = map(float, center_and_scale(z))
    assert center == pytest.approx(4) and scale == pytest.approx(1, rel=1e-4)
    assert 0.8 < float(sliced_wasserstein(z, slices)) < 1
    for function in (lambda z: center_and_scale(z)[1], lambda z: sliced_wasserstein(z, slices)):
        assert np.isfinite(gradients(function, z)[1][0]).all()


# all


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_give_a_float32_loss(rng, dtype):
    z, slices = ops.cast(300 * rng.normal(size=(N, D)), dtype), directions(rng)
    full = ops.cast(z, "float32")
    functions = [sigreg, sliced_wasserstein, lambda z, _: center_and_scale(z)[1]]
    for function in functions:
        value = function(z, slices)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(value, function(full, slices), rtol=1e-5)
        assert np.isfinite(float(value))


def test_slices_of_the_package_are_what_the_losses_take(rng):
    slices = draws.slices(3, D, 2000)
    z = rng.normal(size=(4000, D)).astype("float32")
    assert float(sliced_wasserstein(z, slices)) < 0.01 and float(sigreg(z, slices)) < 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, a: sigreg(z, a[:2]), r"`slices` \(D, S\).*\(2, 40\)"),
        (lambda z, a: sliced_wasserstein(z[0], a), r"`z` must have shape.*\(6,\)"),
        (lambda z, a: sigreg(z, a, num_points=1), "`num_points` must be >= 2.*num_points=1"),
        (lambda z, a: sigreg(z, a, t_max=0.0), "`t_max` > 0.*t_max=0.0"),
        (lambda z, a: sliced_wasserstein(z, a, 0.0), "`epsilon` must be > 0.*0.0"),
    ],
)
def test_wrong_arguments(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((4, D), "float32"), directions(rng))
