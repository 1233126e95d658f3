import keras
import numpy as np
import pytest

from keras_ssl import evaluation
from keras_ssl.evaluation import monitors

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(300, 24)) * np.linspace(0.2, 2, 24)
Z2 = Z + 0.3 * RNG.normal(size=Z.shape)
ROTATION = np.linalg.qr(RNG.normal(size=(24, 24)))[0]
ALL = (
    evaluation.feature_std,
    evaluation.rankme,
    evaluation.effective_rank,
    evaluation.uniformity,
    evaluation.dead_dimensions,
)


def test_rankme_golden(goldens):
    g = np.load(goldens / "rankme.npz")
    np.testing.assert_allclose(evaluation.rankme(g["in_embeddings"]), g["out"], rtol=1e-4)
    tensor = keras.ops.convert_to_tensor(g["in_embeddings"], "float32")
    np.testing.assert_allclose(evaluation.rankme(tensor), g["out"], rtol=1e-4)


def test_rankme_reference_values():
    orthonormal = np.linalg.qr(RNG.normal(size=(512, 64)))[0]
    np.testing.assert_allclose(evaluation.rankme(orthonormal), 64.0, rtol=1e-3)
    rank_one = np.outer(RNG.normal(size=100), RNG.normal(size=32))
    np.testing.assert_allclose(evaluation.rankme(rank_one), 1.0, atol=1e-3)
    gauss = np.random.default_rng(1).normal(size=(512, 64))
    np.testing.assert_allclose(evaluation.rankme(gauss), 62.94, atol=0.1)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_rankme_is_the_entropy_of_singular_values_and_is_bounded(shape):
    z = np.random.default_rng(2).normal(size=shape) ** 3
    s = np.linalg.svd(z, compute_uv=False)
    p = s / s.sum() + 1e-7
    np.testing.assert_allclose(evaluation.rankme(z), np.exp(-(p * np.log(p)).sum()), rtol=1e-6)
    assert 1.0 <= evaluation.rankme(z) <= 12.001


def test_rotation():
    """All but the spread per dimension, which depends on the axes."""
    turned = Z @ ROTATION
    for figure in (evaluation.rankme, evaluation.effective_rank, evaluation.uniformity):
        np.testing.assert_allclose(figure(turned), figure(Z), rtol=1e-6)
    np.testing.assert_allclose(
        evaluation.alignment(turned, Z2 @ ROTATION), evaluation.alignment(Z, Z2), rtol=1e-9
    )
    assert abs(evaluation.feature_std(turned) - evaluation.feature_std(Z)) > 0.01


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e30])
@pytest.mark.parametrize("figure", ALL)
def test_global_scale_does_not_matter(figure, scale):
    np.testing.assert_allclose(figure(scale * Z), figure(Z), rtol=1e-6)


def test_identical_rows():
    z = np.tile(RNG.normal(size=(1, 16)), (50, 1)).astype(np.float32)
    assert evaluation.feature_std(z) < 1e-6
    assert abs(evaluation.uniformity(z)) < 1e-6
    assert evaluation.dead_dimensions(z) == 1.0
    np.testing.assert_allclose(evaluation.rankme(z), 1.0, atol=1e-3)
    noise = 1e-7 * RNG.normal(size=z.shape).astype(np.float32)  # what float32 leaves
    assert evaluation.effective_rank(z + noise) == 1.0


def test_isotropic_spread_is_one():
    z = np.random.default_rng(3).normal(size=(4000, 64))
    np.testing.assert_allclose(evaluation.feature_std(z), 1.0, atol=0.01)
    by_hand = z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(evaluation.feature_std(z), by_hand.std(axis=0).mean() * 8, rtol=1e-9)


def test_effective_rank_sees_past_a_common_mean():
    spread = np.random.default_rng(4).normal(size=(500, 32))
    assert evaluation.rankme(spread + 50) < 8
    assert evaluation.effective_rank(spread + 50) > 29
    line = 50 + np.outer(RNG.normal(size=500), RNG.normal(size=32))
    assert evaluation.effective_rank(line) < 1.5


def test_duplicated_rows():
    doubled = np.concatenate([Z, Z])
    np.testing.assert_allclose(evaluation.rankme(doubled), evaluation.rankme(Z), rtol=1e-6)
    assert evaluation.uniformity(doubled) > evaluation.uniformity(Z)


def test_uniformity_reference_values(monkeypatch):
    np.testing.assert_allclose(evaluation.uniformity(np.eye(10)), -4.0, rtol=1e-9)
    np.testing.assert_allclose(evaluation.uniformity([[1.0, 0.0], [-1.0, 0.0]]), -8.0, rtol=1e-9)
    sphere = np.random.default_rng(5).normal(size=(2000, 8))
    np.testing.assert_allclose(evaluation.uniformity(sphere), -3.08, atol=0.02)
    whole = evaluation.uniformity(Z)
    monkeypatch.setattr(monitors, "UNIFORMITY_CHUNK", 7)
    np.testing.assert_allclose(evaluation.uniformity(Z), whole, rtol=1e-12)


def test_alignment_is_two_minus_two_cosines():
    assert evaluation.alignment(Z, 3 * Z) < 1e-12
    np.testing.assert_allclose(evaluation.alignment(Z, -Z), 4.0)
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (Z, Z2)]
    cosine = (unit[0] * unit[1]).sum(axis=1).mean()
    np.testing.assert_allclose(evaluation.alignment(Z, Z2), 2 - 2 * cosine, rtol=1e-9)
    with pytest.raises(ValueError, match="same images"):
        evaluation.alignment(Z, Z2[:-1])


def test_dead_dimensions():
    z = np.array(Z)
    z[:, ::2] = 0.0
    assert evaluation.dead_dimensions(z) == 0.5
    assert evaluation.dead_dimensions(1e-5 * Z) == 0.0  # small is not dead


def test_lidar_reference_values():
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    centres = rng.normal(size=(100, 5)) @ basis[:5]
    five = centres[:, None] + 0.01 * rng.normal(size=(100, 10, 32))
    assert 4.5 < evaluation.lidar(five) < 5.5
    isotropic = rng.normal(size=(100, 1, 32)) + 0.1 * rng.normal(size=(100, 10, 32))
    assert 25 < evaluation.lidar(isotropic) < 29
    np.testing.assert_allclose(evaluation.lidar(five @ basis), evaluation.lidar(five), rtol=1e-5)
    still = np.repeat(centres[:, None], 4, axis=1)  # no scatter within: delta cancels
    a, b = evaluation.lidar(still, delta=1e-4), evaluation.lidar(still, delta=1e-2)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    with pytest.raises(ValueError, match="views >= 2"):
        evaluation.lidar(Z)


@pytest.mark.parametrize("figure", ALL)
def test_errors_say_what_is_wrong(figure):
    with pytest.raises(ValueError, match=r"shape \(N >= 2, D\)"):
        figure(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="must be finite"):
        figure(np.full((3, 4), np.nan))
