"""Barlow Twins: its loss on its own embeddings, what changes it, the paper's settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import head
from toys import images, ready_batches, tiny_backbone

import keras_ssl


def barlow(**kwargs):
    keras.utils.set_random_seed(1)
    return keras_ssl.BarlowTwins(tiny_backbone(), head(None), **kwargs)


def batch(n=16):
    return next(iter(ready_batches(n, n)))


def embeddings(model, view):
    return np.array(model.projector(model.backbone(view, training=True), training=True), "float64")


def loss_of(model, b):
    return float(model.compute_losses(b, training=True)["loss"])


def test_loss_is_the_papers_on_embeddings_of_each_view():
    model, b = barlow(off_diagonal_weight=0.3, loss_scale=0.5), batch()
    z1, z2 = (embeddings(model, view) for view in b["views"])
    z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
    c = z1.T @ z2 / 16
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    assert loss_of(model, b) == pytest.approx(
        0.5 * (((1 - np.diag(c)) ** 2).sum() + 0.3 * off), rel=1e-4
    )


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = barlow(), batch()
    v1, v2 = b["views"]
    order = np.random.default_rng(0).permutation(16)
    permuted = {"views": (tf.gather(v2, order), tf.gather(v1, order))}
    assert loss_of(model, permuted) == pytest.approx(loss_of(model, b), rel=1e-5)
    mixed = {"views": (v1, tf.gather(v2, order))}
    assert loss_of(model, mixed) > 1.05 * loss_of(model, b)


def test_both_views_have_gradients():
    model, b = barlow(), batch()
    with tf.GradientTape() as tape:
        tape.watch(b["views"])
        loss = model.compute_losses(b, training=True)["loss"]
    assert all(np.abs(g).max() > 1e-5 for g in tape.gradient(loss, b["views"]))


def test_lars_turns_the_scale_of_the_loss_into_a_rate_of_vectors():
    moved = []
    for scale in (1.0, 0.1):
        model = barlow(loss_scale=scale)
        model.compile(keras_ssl.optimizers.LARS(0.1))
        before = [np.array(v) for v in model.trainable_variables]
        model.train_on_batch(batch())
        moved.append([np.array(v) - old for v, old in zip(model.trainable_variables, before)])
    for full, scaled in zip(*moved):
        expected = full if full.ndim > 1 else 0.1 * full
        np.testing.assert_allclose(scaled, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


def test_learning_makes_embeddings_alike_and_decorrelated():
    model = barlow(loss_scale=1.0)
    model.compile(keras.optimizers.Adam(3e-3))
    data = ready_batches(64, 64)
    first = loss_of(model, next(iter(data)))
    model.fit(data, epochs=60, verbose=0)
    b = next(iter(data))
    z1, z2 = (embeddings(model, view) for view in b["views"])
    between = np.corrcoef(z1.T, z2.T)[:16, 16:]
    assert loss_of(model, b) < 0.5 * first
    assert np.diag(between).mean() > 0.8
    assert np.abs(between[~np.eye(16, dtype=bool)]).mean() < 0.3


def test_settings_of_the_paper():
    small = keras_ssl.BarlowTwins(tiny_backbone())
    kernels = [w.shape for w in small.projector.weights if w.path.endswith("kernel")]
    assert kernels == [(8, 2048), (2048, 2048), (2048, 2048)]
    assert not any(w.path.endswith("bias") for w in small.projector.weights)
    large = keras_ssl.BarlowTwins(tiny_backbone((96, 96, 3)), head(None))
    assert (small.loss_scale, large.loss_scale) == (0.1, 0.024)
    assert small.off_diagonal_weight == large.off_diagonal_weight == 0.0051
    large.steps_per_epoch.assign(1)
    rates = [
        float(large.paper_optimizer(1000, 2048)._learning_rate(step)) for step in (0, 10, 1000)
    ]
    np.testing.assert_allclose(rates, [0, 1.6, 1.6e-3], rtol=1e-4)


def test_embeddings():
    assert barlow().embed(images(4)).shape == (4, 16)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"off_diagonal_weight": -1.0}, "off_diagonal_weight=-1.0"),
        ({"loss_scale": 0.0}, "loss_scale=0.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        barlow(**arguments)
