"""NNCLR: neighbours out of the old queue, what gradients may reach, the order of the queue."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import batches
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import losses, views
from keras_ssl.layers import heads

WIDTH, N = 6, 16


def nnclr(**kwargs):
    keras.utils.set_random_seed(1)
    projector = heads.mlp(8, (12, WIDTH))
    model = keras_ssl.NNCLR(tiny_backbone(), projector, **{"queue_size": 40, **kwargs})
    model.compile(keras.optimizers.SGD(0.1))
    return model


def identity():
    inputs = keras.Input((WIDTH,))
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def constant():
    """A predictor whose output is the same for all."""
    inputs = keras.Input((WIDTH,))
    dense = keras.layers.Dense(WIDTH, kernel_initializer="zeros", bias_initializer="ones")
    return keras.Model(inputs, dense(inputs))


def batch(seed=0):
    return next(iter(ready_batches(N, N, seed=seed)))


def unit(x):
    x = np.array(x, "float64")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def outputs(model, view):
    """z and p of a view, as unit rows."""
    z = model.projector(model.backbone(view, training=True), training=True)
    return unit(z), unit(model.predictor(z, training=True))


def loss(model, b, training=True):
    return float(model.compute_losses(b, training=training)["loss"])


def nearest(queue, x):
    return queue[np.argmax(x @ queue.T, axis=1)]


def cross_entropy(a, b, temperature):
    shares = np.exp(a @ b.T / temperature)
    return -np.mean(np.log(np.diag(shares) / shares.sum(axis=1)))


def test_loss_is_that_of_the_neighbours_in_the_old_queue():
    model, b = nnclr(temperature=0.3), batch()
    before = model.queue.keys.numpy()
    found = loss(model, b)
    (z1, p1), (z2, p2) = (outputs(model, view) for view in b["views"])

    def expected(queue, a1, a2):
        there = cross_entropy(nearest(queue, a1), p2, 0.3)
        return (there + cross_entropy(nearest(queue, a2), p1, 0.3)) / 2

    assert found == pytest.approx(expected(before, z1, z2), rel=1e-4)
    after = model.queue.keys.numpy()
    for other in (expected(after, z1, z2), expected(before, p1, p2), expected(before, z2, z1)):
        assert abs(found - other) > 1e-3  # the new queue; neighbours of p; views swapped


def test_first_views_enter_the_queue_and_the_oldest_rows_leave():
    model = nnclr()
    held = model.queue.keys.numpy()
    for step in range(3):  # 40 rows, 16 a step: the third batch goes round
        b = batch(step)
        z1 = outputs(model, b["views"][0])[0]
        loss(model, b)
        places = (16 * step + np.arange(16)) % 40
        held[places] = z1
        np.testing.assert_allclose(model.queue.keys.numpy(), held, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(z1, axis=1), 1.0, atol=1e-5)
    loss(model, batch(), training=False)
    np.testing.assert_allclose(model.queue.keys.numpy(), held, atol=1e-5)


def test_a_queue_with_the_views_themselves_gives_the_contrast_between_views():
    model, b = nnclr(queue_size=2 * N, predictor=identity(), temperature=0.3), batch()
    z1, z2 = (outputs(model, view)[0].astype("float32") for view in b["views"])
    model.queue.keys.assign(np.concatenate([z1, z2]))
    forth, back = losses.inter_view_nce(z1, z2, 0.3), losses.inter_view_nce(z2, z1, 0.3)
    assert loss(model, b) == pytest.approx(float(forth + back) / 2, rel=1e-5)


def test_no_gradient_passes_the_neighbours():
    """With a predictor that hides z nothing reaches the networks; the loss is log N."""
    model, b = nnclr(predictor=constant()), batch()
    networks = [*model.backbone.trainable_variables, *model.projector.trainable_variables]
    values = [v.value for v in networks] + [model.queue.keys.value]
    with tf.GradientTape() as tape:
        tape.watch(values)
        value = model.compute_losses(b, training=True)["loss"]
    assert float(value) == pytest.approx(np.log(N), rel=1e-5)
    *gradients, of_queue = tape.gradient(value, values)
    assert of_queue is None
    assert all(g is None or not np.any(g) for g in gradients)


def test_gradient_passes_the_predictions():
    model, b = nnclr(), batch()
    with tf.GradientTape() as tape:
        value = model.compute_losses(b, training=True)["loss"]
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    assert all(g is not None for g in gradients)
    assert np.abs(gradients[0]).max() > 1e-4


def test_order_of_the_queue_does_not_matter():
    model, b = nnclr(), batch()
    keys = model.queue.keys.numpy()
    expected = loss(model, b, training=False)
    model.queue.keys.assign(np.random.default_rng(0).permutation(keys))
    assert loss(model, b, training=False) == pytest.approx(expected, rel=1e-5)


def test_a_queue_of_one_vector_cannot_be_solved():
    """Every anchor is the same, so no prediction gets below log N, however they are trained."""
    model = nnclr()
    model.queue.keys.assign(np.tile(np.eye(1, WIDTH, dtype="float32"), (40, 1)))
    b = batch()
    dataset = tf.data.Dataset.from_tensors(b).repeat(20)
    model.queue.enqueue = lambda rows: None
    history = model.fit(dataset, epochs=1, steps_per_epoch=20, verbose=0).history
    assert history["loss"][0] >= np.log(N) - 1e-5
    assert loss(model, b, training=False) >= np.log(N) - 1e-5


def test_networks_and_settings_of_both_sizes():
    large = keras_ssl.NNCLR(tiny_backbone((96, 96, 3)), queue_size=40)
    small = nnclr()
    assert (large.temperature, small.temperature) == (0.1, 0.2)
    for network, shapes in (
        (large.projector, [(8, 2048), (2048, 2048), (2048, 256)]),
        (large.predictor, [(256, 4096), (4096, 256)]),
        (small.predictor, [(WIDTH, 1024), (1024, WIDTH)]),
    ):
        assert [tuple(w.shape) for w in network.weights if w.path.endswith("kernel")] == shapes
    norms = [w.path.split("/")[-2:] for w in large.projector.weights if "bn" in w.path]
    assert len(norms) == 12 and ["projector_bn3", "beta"] in norms  # after the last layer, too
    assert not any("bn2" in w.path for w in large.predictor.weights)
    large.steps_per_epoch.assign(1)
    lars = large.paper_optimizer(1000, 4096)
    rates = [float(lars._learning_rate(step)) for step in (0, 10, 505, 1000)]
    np.testing.assert_allclose(rates, [0, 4.8, 2.4, 0], atol=1e-6)
    assert lars.weight_decay == 1e-6
    serialize = keras.saving.serialize_keras_object
    assert serialize(large.default_views((96, 96))) == serialize(views.byol((96, 96)))


def test_size_of_the_queue_by_default():
    """The default queues are large: their shapes are looked at, one is made."""
    model = keras_ssl.NNCLR(tiny_backbone(), heads.mlp(8, (4,)))
    assert model.queue.keys.shape == (65_536, 4)
    model = keras_ssl.NNCLR(tiny_backbone((96, 96, 3)), heads.mlp(8, (4,)))
    assert model.queue.keys.shape == (98_304, 4)


@pytest.mark.parametrize(
    "arguments, message",
    [({"temperature": 0.0}, "temperature=0.0"), ({"queue_size": 0}, "size=0")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        nnclr(**arguments)


def test_a_batch_larger_than_the_queue_is_refused():
    model = nnclr(queue_size=8)
    with pytest.raises(ValueError, match="at most its size, 8 rows.*16"):
        model.fit(batches(model), verbose=0)


def test_embeddings_have_unit_length():
    z = nnclr().embed(images(4))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-5)
