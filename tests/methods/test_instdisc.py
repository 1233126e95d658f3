"""InstDisc: order of the bank's changes, the frozen constant, the proximal term, defaults."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import COUNT, batches, source
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import losses, views
from keras_ssl.layers import heads


def instdisc(compiled=True, **kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.InstDisc(tiny_backbone(), COUNT, **{"dim": 6, **kwargs})
    if compiled:
        model.compile(keras.optimizers.SGD(0.05))
        model.build_optimizer()
    return model


def batch_of(model):
    return next(iter(batches(model)))


def forward(model, batch):
    """Unit embeddings of a training pass, without the method's own code."""
    features = model.backbone(batch["views"][0], training=True)
    z = np.array(model.projector(features, training=True))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_cross_entropy_reads_the_bank_before_the_embeddings_enter():
    model = instdisc()
    batch, before = batch_of(model), model.bank.rows.numpy()
    v, index = forward(model, batch), batch["index"].numpy()
    found = float(model.compute_losses(batch, training=True)["loss"])
    expected = losses.memory_cross_entropy(v, before, index, 0.1)
    assert found == pytest.approx(float(expected), rel=1e-5)
    mixed, after = 0.5 * before[index] + 0.5 * v, model.bank.rows.numpy()
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(after[index], mixed, atol=1e-5)
    others = np.setdiff1d(np.arange(COUNT), index)
    np.testing.assert_array_equal(after[others], before[others])
    model.compute_losses(batch, training=False)
    np.testing.assert_array_equal(model.bank.rows.numpy(), after)


def test_a_step_stores_the_embeddings_of_before_the_step():
    model = instdisc(bank_momentum=0.0)
    batch = batch_of(model)
    v = forward(model, batch)
    model.fit(batches(model), verbose=0)
    np.testing.assert_allclose(model.bank.look_up(batch["index"]), v, atol=1e-5)
    assert np.abs(forward(model, batch) - v).max() > 1e-3


def test_equal_rows_give_the_log_of_the_number_of_images():
    model = instdisc()
    model.bank.rows.assign(np.tile(np.eye(1, 6), (COUNT, 1)))
    loss = float(model.compute_losses(batch_of(model), training=False)["loss"])
    assert loss == pytest.approx(np.log(COUNT), rel=1e-5)


def test_nce_has_the_drawn_rows_as_negatives_and_a_constant_of_the_first_batch():
    model = instdisc(num_negatives=20, temperature=0.2)
    batch, rows = batch_of(model), model.bank.rows.numpy()
    drawn = rows[np.array(model.bank.draw(0, 20))]
    own = rows[batch["index"].numpy()]
    scores = losses.memory_scores(forward(model, batch), own, drawn, 0.2)
    z = float(losses.partition_estimate(scores, COUNT))
    expected = float(losses.noise_contrastive(scores, z, COUNT))
    first = float(model.compute_losses(batch, training=False)["loss"])
    assert float(model.bank.partition.numpy()) == -1
    found = float(model.compute_losses(batch, training=True)["loss"])
    assert found == pytest.approx(expected, rel=1e-5) and np.isfinite(first)
    assert float(model.bank.partition.numpy()) == pytest.approx(z, rel=1e-5)
    model.fit(batches(model, steps=3), verbose=0)
    assert float(model.bank.partition.numpy()) == pytest.approx(z, rel=1e-5)


def test_negatives_change_with_the_step():
    model = instdisc(num_negatives=20)
    first = np.array(model.bank.draw(model.step, 20))
    model.batches_seen.assign(1)
    assert not np.array_equal(first, np.array(model.bank.draw(model.step, 20)))


def test_gradient_does_not_reach_the_bank():
    for negatives in (0, 20):
        model = instdisc(num_negatives=negatives, bank_momentum=0.0, prox_weight=10.0)
        state = [model.bank.rows.value, model.bank.partition.value]
        with tf.GradientTape() as tape:
            for value in state:
                tape.watch(value)
            loss = model.compute_losses(batch_of(model), training=True)["loss"]
        assert all(g is None for g in tape.gradient(loss, state))


@pytest.mark.parametrize("sign, term", [(1.0, 0.0), (-1.0, 4 * 30.0)])
def test_proximal_term_at_its_extremes(sign, term):
    with_term, without = (instdisc(prox_weight=weight, bank_momentum=0.0) for weight in (30.0, 0.0))
    batch = batch_of(with_term)
    v, rows = forward(with_term, batch), with_term.bank.rows.numpy()
    rows[batch["index"].numpy()] = sign * v
    values = []
    for model in (with_term, without):
        model.bank.rows.assign(rows)
        values.append(float(model.compute_losses(batch, training=True)["loss"]))
    assert values[0] - values[1] == pytest.approx(term, abs=1e-3)


def test_settings_follow_the_size():
    small = instdisc(compiled=False, dim=128)
    large = keras_ssl.InstDisc(tiny_backbone((96, 96, 3)), COUNT)
    assert (small.temperature, small.num_negatives) == (0.1, 0)
    assert (large.temperature, large.num_negatives) == (0.07, 4096)
    assert large.bank.rows.shape == (COUNT, 128) and large.bank.momentum == 0.5
    for model, batch, decay in ((small, 128, 5e-4), (large, 256, 1e-4)):
        optimizer = model.paper_optimizer(100, batch)
        rates = [float(optimizer._learning_rate(step)) for step in (0, 59, 61, 81)]
        np.testing.assert_allclose(rates, [0.03, 0.03, 0.003, 0.0003], rtol=1e-5)
        assert optimizer.weight_decay == decay and optimizer.momentum == 0.9


def test_views_are_one_crop_with_colours():
    for size, flips in ((224, True), (32, False)):
        pipeline = views.instdisc(size).view
        kinds = [type(op).__name__ for op in pipeline.ops]
        colors = ["Grayscale", "ColorJitter"] if flips else ["ColorJitter", "Grayscale"]
        assert kinds == ["RandomResizedCrop", *colors] + ["HorizontalFlip"] * flips
        crop, *colors = pipeline.ops[:3]
        grey, jitter = colors if flips else colors[::-1]
        assert crop.scale == (0.2, 1.0) and crop.image_size == (size, size) and grey.p == 0.2
        assert jitter.brightness == jitter.contrast == jitter.saturation == jitter.hue == 0.4
        assert jitter.p == 1.0
    made = views.instdisc(8)(tf.constant(images(1)[0]), tf.constant([1, 2]))
    assert len(made["views"]) == 1 and made["views"][0].shape == (8, 8, 3)


def test_the_number_of_images_must_be_the_data_s():
    model = keras_ssl.InstDisc(tiny_backbone(), COUNT + 1)
    with pytest.raises(ValueError, match=f"num_images={COUNT + 1}.*{COUNT} images"):
        model.fit(source(), batch_size=16, verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"num_negatives": -1}, "num_negatives=-1"),
        ({"bank_momentum": 1.0}, "momentum=1.0"),
        ({"dim": 0}, "dim=0"),
        ({"prox_weight": -1.0}, "prox_weight=-1.0"),
        ({"prox_weight": 10.0}, "prox_weight=10.0, bank_momentum=0.5.*bank_momentum=0"),
        ({"projector": heads.mlp(8, (4,))}, r"must give \(6,\).*gives \(4,\).*`dim`, which is 6"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        instdisc(compiled=False, **arguments)
    with pytest.raises(ValueError, match="num_images=1"):
        keras_ssl.InstDisc(tiny_backbone(), 1)


def test_embeddings_have_unit_length():
    z = instdisc().embed(images(4))
    assert z.shape == (4, 6)
    np.testing.assert_allclose(ops.norm(z, axis=1), 1.0, atol=1e-5)


def test_making_it_by_name_asks_for_the_number_of_images():
    with pytest.raises(ValueError, match=r"InstDisc keeps state.*`num_images`.*\['dim'\]"):
        keras_ssl.create("instdisc", (8, 8, 3), "small_conv", dim=6)
    assert keras_ssl.create("instdisc", (8, 8, 3), "small_conv", num_images=5).num_images == 5
