import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import invariance, negative_cosine


@pytest.fixture
def pair():
    return np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32")


def test_golden(goldens):
    data = np.load(goldens / "negative_cosine.npz")
    value, (grad_p, grad_z) = gradients(negative_cosine, data["in_p"], data["in_z"])
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(grad_p, data["grad_p"], rtol=1e-3, atol=1e-6)
    assert not grad_z.any()


def test_equal_opposite_and_orthogonal_vectors(pair):
    p = pair[0]
    turned = np.stack([-p[:, 1], p[:, 0]], axis=1)
    np.testing.assert_allclose(negative_cosine(p, p), -1, rtol=1e-6)
    np.testing.assert_allclose(negative_cosine(p, -p), 1, rtol=1e-6)
    np.testing.assert_allclose(negative_cosine(p[:, :2], turned), 0, atol=1e-6)


def test_symmetrised_squared_distance_of_byol_is_four_plus_four_times_this(pair):
    """|p - z|^2 of unit vectors, summed over two terms; opposite vectors give 8."""
    p1, p2 = pair
    z1, z2 = np.random.default_rng(1).normal(size=(2, 7, 5)).astype("float32")

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    squared = sum(((unit(p) - unit(z)) ** 2).sum(1).mean() for p, z in [(p1, z2), (p2, z1)])
    half = (float(negative_cosine(p1, z2)) + float(negative_cosine(p2, z1))) / 2
    np.testing.assert_allclose(squared, 4 + 4 * half, rtol=1e-5)


def test_lengths_and_the_common_order_do_not_count(pair):
    p, z = pair
    value = negative_cosine(p, z)
    scale = np.random.default_rng(1).uniform(0.1, 10, (2, 7, 1)).astype("float32")
    order = np.random.default_rng(2).permutation(7)
    np.testing.assert_allclose(negative_cosine(p * scale[0], z * scale[1]), value, rtol=1e-5)
    np.testing.assert_allclose(negative_cosine(p[order], z[order]), value, rtol=1e-5)
    assert abs(float(negative_cosine(p, z[order]) - value)) > 1e-2


def test_gradient_stops_at_the_target_and_is_orthogonal_to_the_prediction(pair):
    _, (grad_p, grad_z) = gradients(negative_cosine, *pair)
    assert not grad_z.any() and np.abs(grad_p).max() > 1e-3
    np.testing.assert_allclose((grad_p * pair[0]).sum(axis=1), 0, atol=1e-6)


def test_zero_vectors_and_half_precision_stay_finite(pair):
    p, z = pair.copy()
    p[0], z[1] = 0, 0
    value, (grad_p, _) = gradients(negative_cosine, p, z)
    assert np.isfinite(value) and np.isfinite(grad_p).all()
    half = negative_cosine(ops.cast(300 * p, "float16"), ops.cast(z, "float16"))
    assert half.dtype == "float32" and np.isfinite(float(half))


def test_shapes_are_checked(pair):
    with pytest.raises(ValueError, match="`p` and `z`"):
        negative_cosine(pair[0], pair[1][:3])


# invariance


def test_invariance_is_the_distance_from_the_centre_of_the_global_views():
    z = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    for num_global in (1, 2, 4):
        expected = np.mean((z - z[:num_global].mean(0)) ** 2)
        assert float(invariance(z, num_global)) == pytest.approx(expected, rel=1e-5)
    assert float(invariance(z)) == pytest.approx(z.var(0).mean(), rel=1e-5)
    pair = np.mean((z[0] - z[1]) ** 2) / 4
    assert float(invariance(z[:2])) == pytest.approx(pair, rel=1e-5)
    assert float(invariance(z[:1])) == 0


def test_invariance_moves_all_views_and_not_their_mean():
    z = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    _, (grad,) = gradients(lambda z: invariance(z, 2), z)
    assert np.abs(grad).max(axis=(1, 2)).min() > 1e-3
    np.testing.assert_allclose(grad.sum(0), 0, atol=1e-6)


def test_invariance_checks_its_arguments():
    z = np.ones((2, 4, 3), "float32")
    with pytest.raises(ValueError, match=r"`z` must have shape \(V, N, D\).*\(4, 3\)"):
        invariance(z[0])
    for num_global in (0, 3):
        with pytest.raises(ValueError, match=f"`num_global`.*num_global={num_global} for 2 views"):
            invariance(z, num_global)
