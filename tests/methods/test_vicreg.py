"""VICReg: its loss on its own embeddings, what each term does, the paper's settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import head
from toys import images, ready_batches, tiny_backbone

import keras_ssl


def vicreg(**kwargs):
    keras.utils.set_random_seed(1)
    return keras_ssl.VICReg(tiny_backbone(), head(None), **kwargs)


def batch(n=16):
    return next(iter(ready_batches(n, n)))


def embeddings(model, view):
    return np.array(model.projector(model.backbone(view, training=True), training=True), "float64")


def loss_of(model, b):
    return float(model.compute_losses(b, training=True)["loss"])


def test_loss_is_the_authors_on_embeddings_of_each_view():
    model = vicreg(invariance_weight=3.0, variance_weight=5.0, covariance_weight=7.0)
    b = batch()
    z1, z2 = (embeddings(model, view) for view in b["views"])
    expected = 3 * np.mean((z1 - z2) ** 2)
    for z in (z1, z2):
        covariance = np.cov(z.T)
        expected += 2.5 * np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)).mean()
        expected += 7 * ((covariance**2).sum() - (np.diag(covariance) ** 2).sum()) / z.shape[1]
    assert loss_of(model, b) == pytest.approx(expected, rel=1e-4)


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = vicreg(), batch()
    v1, v2 = b["views"]
    order = np.random.default_rng(0).permutation(16)
    permuted = {"views": (tf.gather(v2, order), tf.gather(v1, order))}
    assert loss_of(model, permuted) == pytest.approx(loss_of(model, b), rel=1e-5)
    mixed = {"views": (v1, tf.gather(v2, order))}
    assert loss_of(model, mixed) > 1.05 * loss_of(model, b)


def test_constant_embeddings_have_the_loss_of_collapse():
    model = vicreg()
    model.projector.layers[-1].kernel.assign(np.zeros((32, 16)))
    assert loss_of(model, batch()) == pytest.approx(24.75, rel=1e-5)


def test_only_the_distance_joins_the_views():
    """Spread and covariances of one view do not see the other."""
    b = batch()
    for weight in (0.0, 25.0):
        model = vicreg(invariance_weight=weight)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(b["views"])
            both = model.compute_losses(b, training=True)["loss"]
            alone = model.compute_losses({"views": (b["views"][0],) * 2}, training=True)["loss"]
        first, second = tape.gradient(both, b["views"])
        own = tape.gradient(alone, b["views"][0])
        close = np.allclose(first, own / 2, rtol=1e-3, atol=1e-6)
        assert close == (weight == 0) and np.abs(second).max() > 1e-5


@pytest.mark.parametrize("variance_weight", [25.0, 0.0])
def test_the_variance_term_keeps_embeddings_apart(variance_weight):
    model = vicreg(variance_weight=variance_weight)
    model.compile(keras.optimizers.Adam(1e-2))
    data = ready_batches(64, 64)
    first = loss_of(model, next(iter(data)))
    model.fit(data, epochs=70, verbose=0)
    b = next(iter(data))
    spread = embeddings(model, b["views"][0]).std(0)
    assert loss_of(model, b) < 0.7 * first
    assert spread.mean() > 0.9 if variance_weight else spread.mean() < 0.1


def test_settings_of_the_paper():
    small = keras_ssl.VICReg(tiny_backbone())
    kernels = [w.shape for w in small.projector.weights if w.path.endswith("kernel")]
    assert kernels == [(8, 2048), (2048, 2048), (2048, 2048)]
    assert not any(w.path.endswith("bias") for w in small.projector.weights)
    assert "bn" not in small.projector.layers[-1].name
    weights = (small.invariance_weight, small.variance_weight, small.covariance_weight)
    assert weights == (25, 25, 1)
    small.steps_per_epoch.assign(1)
    schedule = small.paper_optimizer(1000, 2048)._learning_rate
    rates = [float(schedule(step)) for step in (0, 10, 1000)]
    np.testing.assert_allclose(rates, [0, 1.6, 1.6e-3], rtol=1e-4)


def test_embeddings():
    assert vicreg().embed(images(4)).shape == (4, 16)


@pytest.mark.parametrize("name", ["invariance_weight", "variance_weight", "covariance_weight"])
def test_wrong_arguments(name):
    with pytest.raises(ValueError, match=f"{name}=-1.0"):
        vicreg(**{name: -1.0})
