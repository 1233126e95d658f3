"""PIRL: which embedding each term reads, whom the bank follows, how patches become one vector."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import COUNT, batches
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import losses
from keras_ssl.layers import heads


def pirl(compiled=True, **kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.PIRL(tiny_backbone(), COUNT, **{"dim": 6, **kwargs})
    if compiled:
        model.compile(keras.optimizers.SGD(0.05))
        model.build_optimizer()
    return model


def batch_of(model):
    return next(iter(batches(model)))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(model, batch):
    """Of the transformed and of the plain images, without the method's own code.

    The second Dense layer sees the first one's outputs side by side, patch after patch.
    """
    image, *parts = batch["views"]
    features = np.array(model.backbone(np.concatenate(parts), training=True))
    layers = [layer for layer in model.transform_projector.layers if layer.weights]
    by_part = np.split(features, len(parts))
    if len(parts) > 1:
        by_part = [part @ layers[0].kernel.numpy() + layers[0].bias.numpy() for part in by_part]
    w = np.concatenate(by_part, axis=1) @ layers[-1].kernel.numpy() + layers[-1].bias.numpy()
    v = np.array(model.projector(model.backbone(image, training=True)))
    return unit(w), unit(v)


@pytest.mark.parametrize("transform, views", [("jigsaw", 5), ("rotation", 2)])
def test_both_terms_read_the_bank_before_the_plain_image_enters_it(transform, views):
    model = pirl(transform=transform, weight=0.3)
    batch, before = batch_of(model), model.bank.rows.numpy()
    assert len(batch["views"]) == views
    (w, v), index = embeddings(model, batch), batch["index"].numpy()
    found = model.compute_losses(batch, training=True)
    expected = [losses.memory_cross_entropy(z, before, index, 0.1) for z in (w, v)]
    np.testing.assert_allclose([found["transform_loss"], found["image_loss"]], expected, rtol=1e-4)
    total = 0.3 * float(expected[0]) + 0.7 * float(expected[1])
    np.testing.assert_allclose(found["loss"], total, rtol=1e-4)
    after, others = model.bank.rows.numpy(), np.setdiff1d(np.arange(COUNT), index)
    np.testing.assert_allclose(after[index], unit(0.5 * before[index] + 0.5 * v), atol=1e-5)
    np.testing.assert_array_equal(after[others], before[others])
    model.compute_losses(batch, training=False)
    np.testing.assert_array_equal(model.bank.rows.numpy(), after)


def test_both_terms_share_negatives_and_a_constant_of_the_transformed_images():
    model = pirl(num_negatives=20, temperature=0.3)
    batch, bank = batch_of(model), model.bank.rows.numpy()
    index, drawn = batch["index"].numpy(), np.array(model.bank.draw(0, 20))
    scores = [
        losses.memory_scores(z, bank[index], bank[drawn], 0.3) for z in embeddings(model, batch)
    ]
    z = float(losses.partition_estimate(scores[0], COUNT))
    expected = [float(losses.noise_contrastive(s, z, COUNT)) for s in scores]
    found = model.compute_losses(batch, training=True)
    np.testing.assert_allclose([found["transform_loss"], found["image_loss"]], expected, rtol=1e-4)
    assert float(model.bank.partition.numpy()) == pytest.approx(z, rel=1e-4)
    kept = float(model.bank.partition.numpy())
    model.fit(batches(model, steps=2), verbose=0)
    assert float(model.bank.partition.numpy()) == kept


def test_the_uniform_distribution_gives_its_closed_form():
    """Heads that give one vector for every image: P = 1/n for all rows."""
    model, k = pirl(num_negatives=20), 20
    model.bank.rows.assign(np.tile(np.eye(1, 6), (COUNT, 1)))
    for head in (model.projector, model.transform_projector):
        kernel, bias = head.weights[-2:]
        kernel.assign(np.zeros(kernel.shape))
        bias.assign(np.arange(1.0, 7.0))
    found = model.compute_losses(batch_of(model), training=True)
    expected = np.log(1 + k) + k * np.log((1 + k) / k)
    np.testing.assert_allclose([found[name] for name in model.loss_names], expected, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_at_its_ends_the_weight_leaves_one_head_alone(weight):
    model = pirl(weight=weight, num_negatives=20)
    heads_of = (model.transform_projector, model.projector)
    state = [model.bank.rows.value, model.bank.partition.value]
    with tf.GradientTape() as tape:
        tape.watch(state)
        found = model.compute_losses(batch_of(model), training=True)
    sources = [[v.value for v in head.trainable_variables] for head in heads_of]
    transform, image, bank = tape.gradient(found["loss"], [*sources, state])
    trained, idle = (transform, image) if weight else (image, transform)
    assert all(np.abs(g).max() > 0 for g in trained)
    assert all(g is None or not np.abs(g).max() for g in idle) and all(g is None for g in bank)
    term = found["transform_loss"] if weight else found["image_loss"]
    assert float(found["loss"]) == pytest.approx(float(term))


def test_without_transformed_images_it_is_instdisc():
    model = pirl(weight=0.0)
    twin = keras_ssl.InstDisc(model.backbone, COUNT, model.projector, dim=6)
    twin.bank.set_weights(model.bank.get_weights())
    batch = batch_of(model)
    theirs = twin.compute_losses({"views": batch["views"][:1], "index": batch["index"]}, True)
    ours = model.compute_losses(batch, training=True)
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-5)
    np.testing.assert_allclose(model.bank.rows, twin.bank.rows, atol=1e-6)


def test_the_order_of_the_patches_matters_to_g_alone():
    model = pirl()
    _, *parts = batch_of(model)["views"]
    forwards, backwards = (np.array(model._transformed(p, False)) for p in (parts, parts[::-1]))
    assert np.abs(forwards - backwards).max() > 1e-2
    first = model.transform_projector.get_layer("transform_projector_dense1")
    stacked = np.stack([model.backbone(part, training=False) for part in parts], axis=1)
    np.testing.assert_allclose(
        np.array(first(stacked))[:, ::-1], first(np.ascontiguousarray(stacked[:, ::-1])), atol=1e-5
    )


def test_a_step_moves_all_weights_and_stores_the_image_of_before_the_step():
    model = pirl(bank_momentum=0.0, num_negatives=16, grid=1)
    batch, before = batch_of(model), [np.array(w) for w in model.trainable_variables]
    _, v = embeddings(model, batch)
    model.fit(batches(model), verbose=0)
    np.testing.assert_allclose(model.bank.look_up(batch["index"]), v, atol=1e-5)
    assert all((np.array(w) != b).any() for w, b in zip(model.trainable_variables, before))


def test_settings_follow_the_size():
    small = pirl(compiled=False, dim=128)
    large = keras_ssl.PIRL(tiny_backbone((96, 96, 3)), COUNT)
    turned = keras_ssl.PIRL(tiny_backbone((96, 96, 3)), COUNT, transform="rotation")
    assert (small.temperature, small.num_negatives, small.grid) == (0.1, 0, 2)
    assert (large.temperature, large.num_negatives, large.grid) == (0.07, 32_000, 3)
    assert [w.shape for w in large.transform_projector.weights] == [
        (8, 128),
        (128,),
        (9 * 128, 128),
        (128,),
    ]
    assert [w.shape for w in turned.transform_projector.weights] == [(8, 128), (128,)]
    assert turned.grid is None and large.weight == large.bank.momentum == 0.5
    assert large.default_views((96, 96)).pipelines[1].grid == 3
    for model, batch, decay in ((large, 1024, 1e-4), (small, 512, 5e-4)):
        optimizer = model.paper_optimizer(100, batch)
        rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 100)]
        np.testing.assert_allclose(rates, [0.12, 0.06006, 1.2e-4], rtol=1e-4)
        assert optimizer.weight_decay == decay and optimizer.momentum == 0.9


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"num_negatives": -1}, "num_negatives=-1"),
        ({"bank_momentum": 1.0}, "momentum=1.0"),
        ({"weight": 1.5}, "weight=1.5"),
        ({"transform": "blur"}, "transform='blur'"),
        ({"transform": "rotation", "grid": 2}, "grid=2 for a rotation"),
        ({"grid": 0}, "grid=0"),
        ({"projector": heads.mlp(8, (4,))}, r"`projector` must give \(6,\).*gives \(4,\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        pirl(compiled=False, **arguments)
    with pytest.raises(ValueError, match="num_images=1"):
        keras_ssl.PIRL(tiny_backbone(), 1)


def test_views_must_be_those_of_the_transformation():
    model = pirl()
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r"4 more.*'jigsaw' with grid=2.*Received: 1 more"):
        model.compute_losses({**batch, "views": batch["views"][:2]}, training=True)


def test_embeddings_have_unit_length():
    z = pirl().embed(images(4))
    assert z.shape == (4, 6)
    np.testing.assert_allclose(ops.norm(z, axis=1), 1.0, atol=1e-5)
