"""What SimDINO computes, and which of its state changes when."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from methods.test_swav import batch_of
from toys import images, tiny_backbone

from keras_ssl import SimDINO, data, losses, optimizers
from keras_ssl.ops import l2_normalize


def simdino(**options):
    return SimDINO(tiny_backbone(), **options)


def test_loss_is_the_mean_cosine_of_pairs_and_the_rate_of_the_large_views():
    model, batch = simdino(weight=0.7, epsilon=0.2), batch_of(small=2)
    for variable in model.teacher_projector.weights:
        variable.assign(variable + 0.01)
    embed = lambda network, head, views: [  # noqa: E731
        np.array(l2_normalize(head(network(v))), "float64") for v in views
    ]
    z = embed(model.backbone, model.projector, batch["views"])
    t = embed(model.teacher_backbone, model.teacher_projector, batch["views"][:2])
    cosines = [(z[u] * t[v]).sum(axis=1).mean() for v in range(2) for u in range(4) if u != v]
    rate = np.mean([float(losses.coding_rate(z[v], 0.2)) for v in range(2)])
    found = model.compute_losses(batch, training=False)
    assert len(cosines) == 6
    assert float(found["cosine"]) == pytest.approx(np.mean(cosines), rel=1e-4)
    assert float(found["coding_rate"]) == pytest.approx(rate, rel=1e-4)
    gamma = 0.7 * (256 + 10) / (256 * 10)
    expected = -np.mean(cosines) - gamma * rate
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)


def test_a_collapse_is_seen_in_the_rate():
    model = simdino()
    batch = batch_of(small=0)
    before = float(model.compute_losses(batch, False)["coding_rate"])
    kernel, bias = model.projector.layers[-1].weights
    kernel.assign(ops.zeros_like(kernel))
    bias.assign(ops.ones_like(bias))
    found = model.compute_losses(batch, False)
    assert float(found["coding_rate"]) == pytest.approx(math.log(1 + 256 / 0.05) / 2, rel=1e-3)
    assert float(found["coding_rate"]) < before


def test_no_gradient_reaches_the_teacher():
    model = simdino()
    values = [v.value for v in [*model.teacher_backbone.weights, *model.teacher_projector.weights]]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch_of(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))


def test_teacher_follows_by_the_schedule_of_the_run():
    model = simdino(momentum=0.6)
    model.compile(keras.optimizers.SGD(0.01))
    (kernel, *_), (slow, *_) = model.projector.weights, model.teacher_projector.weights
    expected, students = np.array(slow), []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            students.append(np.array(kernel))

    model.fit(data.from_array(images(48)), batch_size=16, verbose=0, callbacks=[Keep()])
    for step, student in enumerate(students):
        m = float(optimizers.cosine_momentum(step, 3, 0.6))
        expected = m * expected + (1 - m) * student
    np.testing.assert_allclose(slow, expected, atol=1e-6)


def test_defaults_by_size():
    assert simdino().momentum == 0.9
    large = SimDINO(tiny_backbone((96, 96, 3)))
    assert large.momentum == 0.996 and large.default_views((96, 96)).counts == (1, 1, 10)
    assert simdino().default_views((32, 32)).counts == (1, 1)
    optimizer = large.paper_optimizer(1000, 512)
    assert float(optimizer._learning_rate(100)) == pytest.approx(1e-3)
    assert float(optimizer.weight_decay(1000)) == pytest.approx(0.4)


def test_wrong_arguments():
    for name, value in {"epsilon": 0, "weight": -1, "momentum": 1.5}.items():
        with pytest.raises(ValueError, match=f"`{name}`.*Received: .*{name}={value}"):
            simdino(**{name: value})
    with pytest.raises(ValueError, match="SimDINO needs two views at least. Received: 1"):
        simdino().compute_losses(batch_of(large=1, small=0), training=False)
