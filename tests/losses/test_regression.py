import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import invariance, negative_cosine, smooth_l1


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


def test_smooth_l1_is_a_parabola_then_a_line():
    """1/8 at a half, beta / 2 at beta, and a slope of one beyond."""
    zero, one = np.zeros((1, 1, 4), "float32"), np.ones((1, 1), "float32")
    for beta, error, expected in ((1, 0.5, 0.125), (1, 3, 2.5), (2, 2, 1), (2, 5, 4), (1, 0, 0)):
        for sign in (1, -1):
            found = smooth_l1(zero + sign * error, zero, one, beta)
            assert float(found[0]) == pytest.approx(expected, rel=1e-6)


def test_smooth_l1_is_the_weighted_mean_of_an_image():
    rng = np.random.default_rng(0)
    p, z = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    weights = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], "float32")
    found = np.array(smooth_l1(p, z, weights))
    for i, count in enumerate((2, 4, 1)):
        own = slice(i, i + 1), slice(count)
        expected = smooth_l1(p[own], z[own], np.ones((1, count)))
        assert found[i] == pytest.approx(float(expected[0]), rel=1e-5)
    _, (grad_p, grad_z) = gradients(lambda *both: ops.mean(smooth_l1(*both, weights)), p, z)
    assert not grad_z.any() and not grad_p[weights == 0].any() and grad_p[weights == 1].all()


def test_wrong_arguments_of_smooth_l1():
    p = np.zeros((3, 2, 4))
    with pytest.raises(ValueError, match="`beta` must be > 0. Received: beta=0"):
        smooth_l1(p, p, np.ones((3, 2)), 0)
    with pytest.raises(ValueError, match=r"`weights` \(B, M\). Received: shapes .*\(3, 2, 4\)"):
        smooth_l1(p, p, np.ones((3, 2, 4)))
