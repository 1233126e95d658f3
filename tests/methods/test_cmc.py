"""CMC: which bank each term reads, which encoder it trains, how many terms there are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import COUNT, batches
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import losses, views
from keras_ssl.backbones import channel_towers
from keras_ssl.backbones.towers import towers_of
from keras_ssl.layers import heads

PAIRS = ((0, 1), (1, 0))  # L against the bank of ab, ab against that of L


def cmc(compiled=True, **kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.CMC(tiny_backbone(), COUNT, **{"dim": 6, **kwargs})
    if compiled:
        model.compile(keras.optimizers.SGD(0.05))
        model.build_optimizer()
    return model


def batch_of(model):
    return next(iter(batches(model)))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(model, batch):
    """Embeddings of L and of ab of a training pass, without the method's own code."""
    features = np.array(model.backbone(batch["views"][0], training=True))
    parts = zip(model.projectors, np.split(features, 2, axis=1))
    return [unit(np.array(head(part, training=True))) for head, part in parts]


def rows(model):
    return [bank.rows.numpy() for bank in model.banks]


def terms(model, batch, training=True):
    """Each term by itself, the banks as they are."""
    index, z = batch["index"], model._embeddings(batch["views"][0], training)
    return [model._match(z[u], model.banks[v], index, training) for u, v in PAIRS]


def test_each_channel_meets_the_bank_of_the_other_and_enters_its_own():
    model = cmc()
    batch, (bank, color_bank) = batch_of(model), rows(model)
    index = batch["index"].numpy()
    lightness, color = embeddings(model, batch)
    found = terms(model, batch)
    loss = model.compute_losses(batch, training=True)["loss"]
    expected = (
        losses.memory_cross_entropy(lightness, color_bank, index, 0.1),
        losses.memory_cross_entropy(color, bank, index, 0.1),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(loss, sum(expected), rtol=1e-4)
    for before, after, z in zip((bank, color_bank), rows(model), (lightness, color)):
        np.testing.assert_allclose(after[index], unit(0.5 * before[index] + 0.5 * z), atol=1e-5)
        others = np.setdiff1d(np.arange(COUNT), index)
        np.testing.assert_array_equal(after[others], before[others])
    now = rows(model)
    model.compute_losses(batch, training=False)
    for a, b in zip(now, rows(model)):
        np.testing.assert_array_equal(a, b)


def test_both_terms_share_the_negatives_and_have_a_constant_each():
    model = cmc(num_negatives=20, temperature=0.3)
    batch, banks = batch_of(model), rows(model)[::-1]
    index, drawn = batch["index"].numpy(), np.array(model.banks[0].draw(0, 20))
    np.testing.assert_array_equal(drawn, model.banks[1].draw(0, 20))
    expected, constants = [], []
    for z, bank in zip(embeddings(model, batch), banks):
        scores = losses.memory_scores(z, bank[index], bank[drawn], 0.3)
        constants.append(float(losses.partition_estimate(scores, COUNT)))
        expected.append(float(losses.noise_contrastive(scores, constants[-1], COUNT)))
    found = model.compute_losses(batch, training=True)["loss"]
    np.testing.assert_allclose(found, sum(expected), rtol=1e-4)
    kept = [float(b.partition.numpy()) for b in model.banks[::-1]]
    np.testing.assert_allclose(kept, constants, rtol=1e-4)
    model.fit(batches(model, steps=2), verbose=0)
    np.testing.assert_array_equal(kept, [float(b.partition.numpy()) for b in model.banks[::-1]])


def test_equal_rows_give_twice_the_log_of_the_number_of_images():
    model = cmc()
    for bank in model.banks:
        bank.rows.assign(np.tile(np.eye(1, 6), (COUNT, 1)))
    loss = float(model.compute_losses(batch_of(model), training=False)["loss"])
    assert loss == pytest.approx(2 * np.log(COUNT), rel=1e-5)


@pytest.mark.parametrize("negatives", [0, 20])
def test_each_term_trains_one_encoder_and_no_bank(negatives):
    model = cmc(num_negatives=negatives)
    own = [
        [*tower.trainable_variables, *projector.trainable_variables]
        for tower, projector in zip(towers_of(model.backbone), model.projectors)
    ]
    banks = [v.value for b in model.banks for v in (b.rows, b.partition)]
    for term, (trained, other) in enumerate(zip(own, own[::-1])):
        with tf.GradientTape() as tape:
            tape.watch(banks)
            loss = terms(model, batch_of(model))[term]
        gradients = tape.gradient(
            loss, [[v.value for v in vs] for vs in (trained, other)] + [banks]
        )
        assert all(np.abs(g).max() > 0 for g in gradients[0])
        zero = [g is None or not np.abs(g).max() for g in gradients[1]]
        assert all(zero) and all(g is None for g in gradients[2])


def test_core_and_full_graphs_of_three_groups():
    """V groups have V (V - 1) terms, or the 2 (V - 1) that contain the first."""
    groups = [(0, 1, 2), (3,), (0, 3)]
    towers = channel_towers(tiny_backbone((8, 8, 4)), groups, color_space=None)
    batch = {"views": (np.random.default_rng(0).random((4, 8, 8, 4)).astype("float32"),)}
    batch["index"] = np.arange(4)
    found = {}
    for graph in ("full", "core"):
        model = keras_ssl.CMC(towers, COUNT, dim=6, graph=graph)
        for bank in model.banks:
            bank.rows.assign(np.tile(np.eye(1, 6), (COUNT, 1)))
        found[graph] = float(model.compute_losses(batch, training=False)["loss"])
    np.testing.assert_allclose(found["full"], 6 * np.log(COUNT), rtol=1e-5)
    np.testing.assert_allclose(found["core"], 4 * np.log(COUNT), rtol=1e-5)


def test_given_towers_are_kept():
    wider = channel_towers([tiny_backbone(), tiny_backbone(width=12, name="other")])
    model = keras_ssl.CMC(wider, COUNT, dim=6)
    assert model.backbone is wider and model.projectors[1].input_shape == (None, 12)
    assert model.embed(images(4)).shape == (4, 12)


def test_the_encoder_is_exported_in_layers_of_keras(tmp_path):
    model = cmc()
    model.export_encoder(tmp_path / "encoder.keras", format="keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    x = images(4).astype("float32") / 255
    np.testing.assert_allclose(again(x), model.encode(x), atol=1e-5)


def test_settings_follow_the_size():
    small = cmc(compiled=False, dim=128)
    large = keras_ssl.CMC(tiny_backbone((96, 96, 3)), COUNT)
    assert (small.temperature, small.num_negatives) == (0.1, 0)
    assert (large.temperature, large.num_negatives) == (0.07, 4096)
    optimizer = large.paper_optimizer(240, 128)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 119, 121, 161, 201)]
    np.testing.assert_allclose(rates, [0.03, 0.03, 0.003, 3e-4, 3e-5], rtol=1e-5)
    assert optimizer.weight_decay == 1e-4
    crop, flip = views.cmc(224).view.ops
    assert crop.scale == (0.08, 1.0) and crop.image_size == (224, 224) and flip.p == 0.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"num_negatives": -1}, "num_negatives=-1"),
        ({"bank_momentum": 1.0}, "momentum=1.0"),
        ({"graph": "star"}, "graph='star'"),
        ({"projectors": [heads.mlp(8, (6,))]}, "1 for 2 groups"),
        (
            {"projectors": [heads.mlp(8, (6,)), heads.mlp(8, (4,), name="other")]},
            r"`projectors\[1\]`.*give \(6,\).*gives \(4,\)",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        cmc(compiled=False, **arguments)


def test_wrong_images():
    with pytest.raises(ValueError, match=r"channels.*\(8, 8, 1\)|0 to 0"):
        keras_ssl.CMC(tiny_backbone((8, 8, 1)), COUNT)
    with pytest.raises(ValueError, match="num_images=1"):
        keras_ssl.CMC(tiny_backbone(), 1)


def test_embeddings_have_unit_length():
    np.testing.assert_allclose(ops.norm(cmc().embed(images(4)), axis=1), 1.0, atol=1e-5)
