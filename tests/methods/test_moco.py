"""MoCo: order of the state's changes, shuffled batch normalisation, presets of the two papers."""

import keras
import numpy as np
import pytest
from contract.cases import batches
from keras import ops
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import losses
from keras_ssl.ops import draws, l2_normalize


def moco(**kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.MoCo(tiny_backbone(), **{"queue_size": 40, "momentum": 0.9, **kwargs})
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch(seed=0):
    return next(iter(ready_batches(16, 16, seed=seed)))


def keys_of(model, view):
    """Keys of `view` by the key encoder as it is, without the model's own code."""
    z = model.key_projector(model.key_backbone(view, training=True), training=True)
    return np.array(l2_normalize(z))


def weights(*networks):
    return [w.numpy() for network in networks for w in network.weights if "moving" not in w.path]


def test_loss_reads_the_queue_before_the_keys_enter():
    model = moco(groups=1)
    before = model.queue.keys.numpy()
    b = batch()
    loss = float(model.compute_losses(b, training=True)["loss"])
    query = model.projector(model.backbone(b["views"][0], training=True), training=True)
    key = keys_of(model, b["views"][1])
    assert loss == pytest.approx(
        float(losses.info_nce(query, key, before, temperature=0.1)), rel=1e-5
    )
    after = model.queue.keys.numpy()
    np.testing.assert_allclose(after[:16], key, atol=1e-5)
    np.testing.assert_array_equal(after[16:], before[16:])
    model.compute_losses(b, training=False)
    np.testing.assert_array_equal(model.queue.keys.numpy(), after)


def test_own_key_of_this_step_is_no_negative():
    """With a queue of orthogonal rows, an aligned pair has the loss log(1 + K exp(-1/t))."""
    model = moco(groups=1, queue_size=16)
    b = batch()
    b["views"] = (b["views"][1], b["views"][1])  # equal encoders, so the key is the query
    query = keys_of(model, b["views"][0])
    basis = np.linalg.svd(query, full_matrices=True)[2][16:32]
    model.queue.keys.assign(basis)
    loss = float(model.compute_losses(b, training=True)["loss"])
    assert loss == pytest.approx(np.log(1 + 16 * np.exp(-10)), abs=1e-4)


def test_key_encoder_is_the_average_after_the_step():
    model = moco()
    student = weights(model.backbone, model.projector)
    for s, k in zip(student, weights(model.key_backbone, model.key_projector)):
        np.testing.assert_array_equal(s, k)
    model.fit(ready_batches(16, 16), verbose=0)
    moved = weights(model.backbone, model.projector)
    for old, new, key in zip(student, moved, weights(model.key_backbone, model.key_projector)):
        np.testing.assert_allclose(key, 0.9 * old + 0.1 * new, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_extreme_momenta(momentum):
    model = moco(momentum=momentum)
    first = weights(model.key_backbone)
    model.fit(ready_batches(32, 16), verbose=0)
    expected = weights(model.backbone) if momentum == 0 else first
    for a, b in zip(weights(model.key_backbone), expected):
        np.testing.assert_allclose(a, b, atol=1e-7)
    assert not np.allclose(weights(model.backbone)[0], first[0])


def test_gradient_reaches_the_query_alone():
    import tensorflow as tf

    model = moco()
    values = [v.value for v in [*model.key_backbone.weights, *model.key_projector.weights]]
    values.append(model.queue.keys.value)
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))


def test_presets_of_the_two_papers():
    large = tiny_backbone((96, 96, 3))
    v1, v2 = keras_ssl.MoCo(large, version=1), keras_ssl.MoCo(large)
    assert (v1.temperature, v2.temperature) == (0.07, 0.2)
    assert [len(m.projector.weights) for m in (v1, v2)] == [2, 4]
    assert v1.queue_size == v2.queue_size == 65_536 and v1.momentum == v2.momentum == 0.999
    assert v2.projector.output_shape[-1] == 128
    cosine = v2.paper_optimizer(100, 256)
    rates = [float(cosine._learning_rate(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [0.03, 0.015, 0.0], atol=1e-7)
    steps = v1.paper_optimizer(100, 256)
    rates = [float(steps._learning_rate(step)) for step in (0, 59, 61, 81)]
    np.testing.assert_allclose(rates, [0.03, 0.03, 0.003, 0.0003], rtol=1e-5)


def test_keys_are_those_of_shuffled_groups():
    """The loss and the queue have keys with statistics of permuted groups."""
    model = moco(groups=4)
    view1, view2 = batch()["views"]
    order = np.array(draws.permutation(0, 16))
    key = np.zeros((16, model.projector.output_shape[-1]), "float32")
    for group in np.split(order, 4):
        key[group] = keys_of(model, np.array(view2)[group])
    model.compute_losses({"views": (view1, view2)}, training=True)
    np.testing.assert_allclose(model.queue.keys[:16], key, atol=1e-5)


def test_foreign_batch_normalisation_is_named():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="foreign_bn")(keras.layers.Conv2D(8, 3)(inputs))
    with pytest.raises(ValueError, match="`groups` must be 1"):
        keras_ssl.MoCo(keras.Model(inputs, x), queue_size=40, groups=4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"version": 3}, "version=3"),
        ({"queue_size": 0}, "size=0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        moco(**arguments)


def test_a_batch_larger_than_the_queue_is_refused():
    model = moco(queue_size=8)
    with pytest.raises(ValueError, match="at most its size, 8 rows.*16"):
        model.fit(batches(model), verbose=0)


def test_embeddings_have_unit_length():
    z = moco().embed(images(4))
    np.testing.assert_allclose(ops.norm(z, axis=1), 1.0, atol=1e-5)
