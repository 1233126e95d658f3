"""What DINO computes, what its two collapses look like, and which of its state changes when."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from methods.test_swav import batch_of
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import DINO, data, losses, optimizers, views


def dino(**options):
    return DINO(tiny_backbone(), **{"num_prototypes": 12, "freeze_epochs": 0, **options})


def cosines(network, view, projector, prototypes):
    z = np.array(projector(network(view, training=True), training=True), "float64")
    w = np.array(prototypes, "float64")
    z, w = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, w))
    return z @ w.T


@pytest.mark.parametrize("small", [0, 3])
def test_loss_is_that_of_cosines_with_prototypes(small):
    """Without batch normalisation in the head, each view by itself gives the same."""
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)], name="projector")
    backbone = keras_ssl.backbones.vit(8, 1, 2, (8, 8, 3), pooling="avg")
    model = DINO(backbone, head, num_prototypes=12, temperature=0.3, teacher_temperature=0.2)
    model.center.assign(np.linspace(-0.5, 0.5, 12))
    model.teacher_prototypes.assign(np.random.default_rng(0).normal(size=(12, 6)))
    batch = batch_of(small=small)
    student = [cosines(backbone, v, head, model.prototypes) for v in batch["views"]]
    teacher = [
        cosines(model.teacher_backbone, v, model.teacher_projector, model.teacher_prototypes)
        for v in batch["views"][:2]
    ]
    found = model.compute_losses(batch, training=False)
    expected = losses.dino(student, teacher, np.array(model.center), 0.2, 0.3)
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-4)
    q = np.array([losses.dino_targets(t, model.center, 0.2) for t in teacher], "float64")
    entropy = -(q * np.log(q)).sum(axis=-1).mean()
    assert float(found["teacher_entropy"]) == pytest.approx(entropy, rel=1e-4)


def test_views_of_one_size_share_batch_statistics():
    """As one batch: the loss is not that of views which are normalised one by one."""
    model, batch = dino(), batch_of(small=0)
    together = ops.concatenate(batch["views"])
    features = model.backbone(together, training=True)
    z = keras_ssl.ops.l2_normalize(model.projector(features, training=True))
    w = keras_ssl.ops.l2_normalize(model.prototypes)
    student = ops.split(ops.matmul(z, ops.transpose(w)), 2)  # the teacher is equal at first
    expected = losses.dino(student, student, model.center)
    assert float(model.compute_losses(batch, training=True)["loss"]) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_centre_follows_the_teacher_after_the_loss():
    """A constant teacher's scores t: c after n steps is (1 - 0.9^n) t, and none in inference."""
    model = dino(momentum=1.0)
    batch = batch_of(small=0)
    before = float(model.compute_losses(batch, training=True)["loss"])
    first = np.array(model.center)
    assert np.any(first)
    model.center.assign(np.zeros(12))
    # The loss was made with the old centre.
    assert float(model.compute_losses(batch, training=False)["loss"]) != before
    assert not np.any(np.array(model.center))
    for n in range(1, 4):
        model.compute_losses(batch, training=True)
        expected = (1 - 0.9**n) / 0.1 * first
        np.testing.assert_allclose(model.center, expected, rtol=1e-4, atol=1e-7)


def test_no_gradient_reaches_teacher_or_centre():
    model = dino()
    teacher = [*model.teacher_backbone.weights, *model.teacher_projector.weights]
    values = [v.value for v in [*teacher, model.teacher_prototypes, model.center]]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch_of(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))


def fit(model, steps=3, epochs=1, callbacks=()):
    return model.fit(
        data.from_array(images(16 * steps)),
        batch_size=16,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )


def test_all_of_the_teacher_follows_all_of_the_student():
    model = dino(momentum=0.6)
    model.compile(keras.optimizers.SGD(0.1))
    expected, students = np.array(model.prototypes), []
    np.testing.assert_array_equal(model.teacher_prototypes, expected)

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            students.append(np.array(model.prototypes))

    fit(model, callbacks=[Keep()])
    for step, student in enumerate(students):
        m = float(optimizers.cosine_momentum(step, 3, 0.6))
        expected = m * expected + (1 - m) * student
    np.testing.assert_allclose(model.teacher_prototypes, expected, atol=1e-6)
    assert np.any(
        np.array(model.teacher_backbone.weights[0]) != np.array(model.backbone.weights[0])
    )


def test_prototypes_keep_their_directions_while_frozen():
    """Also under an optimizer with momentum and weight decay."""
    model = dino(freeze_epochs=1)
    model.compile(optimizers.AdamW(0.01, weight_decay=0.1))
    directions = lambda: np.array(keras_ssl.ops.l2_normalize(model.prototypes))  # noqa: E731
    first = directions()
    fit(model)
    np.testing.assert_allclose(directions(), first, atol=1e-6)
    fit(model)
    assert np.abs(directions() - first).max() > 1e-3


def test_temperature_of_the_teacher_rises_by_epochs():
    model = dino(first_teacher_temperature=0.04, teacher_temperature=0.07, temperature_epochs=3)
    assert float(model._teacher_temperature()) == pytest.approx(0.07)  # no clock
    model.steps_per_epoch.assign(10)
    model.compile(keras.optimizers.SGD(0.1))
    for seen, expected in ((0, 0.04), (15, 0.055), (30, 0.07), (90, 0.07)):
        model.batches_seen.assign(seen)
        assert float(model._teacher_temperature()) == pytest.approx(expected, rel=1e-5)
    assert dino()._teacher_temperature() == 0.04


def test_entropy_tells_the_two_collapses():
    """One prototype takes all: 0. The centre makes targets uniform: log K."""
    batch = batch_of(small=0)
    model = dino(teacher_temperature=1e-3)
    model.center.assign(np.linspace(-5, 5, 12))
    assert float(model.compute_losses(batch, False)["teacher_entropy"]) == pytest.approx(
        0, abs=1e-3
    )
    model = dino(teacher_temperature=1e3)
    found = model.compute_losses(batch, False)["teacher_entropy"]
    assert float(found) == pytest.approx(math.log(12), rel=1e-4)


def test_networks_and_optimizers_of_the_paper():
    large = (96, 96, 3)
    convolutional = DINO(tiny_backbone(large), num_prototypes=16)
    assert [
        tuple(w.shape) for w in convolutional.projector.weights if w.path.endswith("kernel")
    ] == [
        (8, 2048),
        (2048, 2048),
        (2048, 256),
    ]
    assert not any("bn" in w.path for w in convolutional.projector.weights)
    assert any("bn" in w.path for w in dino().projector.weights)
    optimizer = convolutional.paper_optimizer(1000, 512)
    assert isinstance(optimizer, optimizers.SGD) and optimizer.clipnorm == 3
    assert float(optimizer._learning_rate(100)) == pytest.approx(0.06)
    transformer = DINO(keras_ssl.backbones.vit(8, 1, 2, large), num_prototypes=16)
    optimizer = transformer.paper_optimizer(1000, 512)
    assert isinstance(optimizer, optimizers.AdamW) and optimizer.clipnorm == 3
    assert float(optimizer._learning_rate(100)) == pytest.approx(1e-3)
    assert float(optimizer.weight_decay(1000)) == pytest.approx(0.4)


def test_views():
    """Two views below 64 px, ten above; of other sizes only where they are asked for."""
    assert dino().default_views((32, 32)).counts == (1, 1)
    assert views.dino(224).counts == (1, 1, 8)
    made = views.dino(32, (2, 3))(ops.convert_to_tensor(images(1, (32, 32, 3))[0]), (0, 1))
    assert [tuple(v.shape[:2]) for v in made["views"]] == [(32, 32)] * 2 + [(16, 16)] * 3
    with pytest.raises(ValueError, match=r"`crops` must be.*Received: crops=\(3, 0\)"):
        views.dino(32, (3, 0))


def test_wrong_arguments():
    wrong = {
        "num_prototypes": 1,
        "temperature": 0,
        "teacher_temperature": -0.1,
        "first_teacher_temperature": 0,
        "temperature_epochs": -1,
        "freeze_epochs": -1,
        "momentum": 1.5,
        "center_momentum": -0.5,
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"`{name}` must be.*Received: .*{value}"):
            dino(**{name: value})
    with pytest.raises(ValueError, match="DINO needs two views at least. Received: 1"):
        dino().compute_losses(batch_of(large=1, small=0), training=False)
