"""BYOL: the loss against its closed form, the teacher's course, what gradients may reach."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import losses, optimizers


def byol(momentum=0.9):
    keras.utils.set_random_seed(1)
    model = keras_ssl.BYOL(tiny_backbone(), momentum=momentum)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch():
    return next(iter(ready_batches(16, 16)))


def outputs(model, view):
    """Prediction and target of a view, as unit rows, in NumPy."""
    p = model.predictor(
        model.projector(model.backbone(view, training=True), training=True), training=True
    )
    t = model.teacher_projector(model.teacher_backbone(view, training=True), training=True)
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (p.numpy(), t.numpy())]


def weights(*networks):
    return [w.numpy() for network in networks for w in network.weights if "moving" not in w.path]


def test_loss_is_the_squared_distance_of_both_orders():
    model, b = byol(), batch()
    (p1, t1), (p2, t2) = (outputs(model, view) for view in b["views"])
    expected = np.mean(((p1 - t2) ** 2).sum(1) + ((p2 - t1) ** 2).sum(1))
    loss = float(model.compute_losses(b, training=True)["loss"])
    assert loss == pytest.approx(expected, rel=1e-5) and 0 < loss < 8
    siamese = (losses.negative_cosine(p1, t2) + losses.negative_cosine(p2, t1)) / 2
    assert loss == pytest.approx(4 + 4 * float(siamese), rel=1e-5)


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = byol(), batch()
    loss = float(model.compute_losses(b, training=True)["loss"])
    v1, v2 = b["views"]
    order = np.random.default_rng(0).permutation(16)
    permuted = (tf.gather(v2, order), tf.gather(v1, order))
    assert float(model.compute_losses({"views": permuted}, training=True)["loss"]) == pytest.approx(
        loss, rel=1e-5
    )


def test_an_identity_predictor_of_equal_views_has_loss_zero():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((256,))
    identity = keras.Model(inputs, keras.layers.Identity()(inputs))
    model = keras_ssl.BYOL(tiny_backbone(), predictor=identity)
    view = batch()["views"][0]
    loss = float(model.compute_losses({"views": (view, view)}, training=True)["loss"])
    assert loss == pytest.approx(0.0, abs=1e-5)


def test_no_gradient_reaches_the_teacher():
    model = byol()
    values = [v.value for v in [*model.teacher_backbone.weights, *model.teacher_projector.weights]]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))
    assert not any("predictor" in w.path for w in model.teacher_projector.weights)


def test_teacher_follows_by_the_schedule_of_the_run():
    """Three steps: the momentum rises from its start along half a cosine, after each step."""
    model = byol(momentum=0.6)
    first = weights(model.teacher_backbone, model.teacher_projector)
    students = []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            students.append(weights(model.backbone, model.projector))

    model.fit(ready_batches(48, 16), verbose=0, callbacks=[Keep()])
    assert len(students) == 3
    expected = first
    for step, student in enumerate(students):
        m = 1 - 0.4 * (1 + np.cos(np.pi * step / 3)) / 2
        assert m == pytest.approx(float(optimizers.cosine_momentum(step, 3, 0.6)), abs=1e-6)
        expected = [m * t + (1 - m) * s for t, s in zip(expected, student)]
    for a, b in zip(weights(model.teacher_backbone, model.teacher_projector), expected):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_momentum_one_keeps_the_teacher():
    model = byol(momentum=1.0)
    first = weights(model.teacher_backbone)
    model.fit(ready_batches(32, 16), verbose=0)
    for a, b in zip(weights(model.teacher_backbone), first):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_unknown_length_of_the_run_keeps_the_momentum():
    model = byol(momentum=0.5)
    first = weights(model.teacher_backbone)
    model.train_on_batch(batch())
    for old, student, teacher in zip(
        first, weights(model.backbone), weights(model.teacher_backbone)
    ):
        np.testing.assert_allclose(teacher, 0.5 * old + 0.5 * student, atol=1e-6)


def test_default_momentum_follows_the_length_of_the_run():
    model = keras_ssl.BYOL(tiny_backbone((96, 96, 3)))
    model.steps_per_epoch.assign(10)
    for epochs, expected in ((10, 0.996), (50, 0.97), (200, 0.99), (1000, 0.996)):
        model.total_steps.assign(10 * epochs)
        assert float(model._first_momentum()) == pytest.approx(expected)


def test_networks_of_the_paper():
    """Below 64 px narrower, and the projection is normalised."""
    for model, hidden in ((byol(), 1024), (keras_ssl.BYOL(tiny_backbone((96, 96, 3))), 4096)):
        for network, width in ((model.projector, 8), (model.predictor, 256)):
            shapes = [tuple(w.shape) for w in network.weights if w.path.endswith("kernel")]
            assert shapes == [(width, hidden), (hidden, 256)]
            statistics = 2 if network is model.projector and hidden == 1024 else 0
            assert sum("bn1" in w.path for w in network.weights) == 4
            assert sum("bn2" in w.path for w in network.weights) == statistics


def test_wrong_momentum():
    with pytest.raises(ValueError, match="momentum=1.1"):
        byol(momentum=1.1)
