"""SimCLR: presets of the two papers, and fine-tuning from the middle of the head."""

import keras
import numpy as np
import pytest
from toys import images, ready_batches, tiny_backbone

import keras_ssl


def kinds(model):
    return [type(layer).__name__ for layer in model.layers[1:]]


def simclr(version=2, **kwargs):
    keras.utils.set_random_seed(1)
    return keras_ssl.SimCLR(tiny_backbone(), version=version, **kwargs)


def trained():
    """A little training, so that no two of its layers compute the same."""
    model = simclr()
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(ready_batches(32, 16), verbose=0)
    return model


def test_heads_of_the_two_papers():
    block = ["Dense", "BatchNormalization", "ReLU"]
    v1, v2 = simclr(1).projector, simclr(2).projector
    assert kinds(v1) == [*block, "Dense", "BatchNormalization"]
    assert kinds(v2) == [*block, *block, "Dense", "BatchNormalization"]
    assert [w.shape for w in v2.weights if len(w.shape) == 2] == [(8, 8), (8, 8), (8, 128)]
    norms = [x for x in v2.layers if isinstance(x, keras_ssl.layers.BatchNormalization)]
    assert [norm.center for norm in norms] == [True, True, False]
    assert all(norm.scale for norm in norms)
    assert keras_ssl.SimCLR(tiny_backbone()).version == 1


@pytest.mark.parametrize("version, factor, warmup", [(1, 0.075, 20), (2, 0.1, 10)])
def test_settings_of_the_two_papers(version, factor, warmup):
    large = keras_ssl.SimCLR(tiny_backbone((96, 96, 3)), version=version)
    small = simclr(version)
    assert (large.temperature, small.temperature) == (0.1, 0.2)
    optimizer = large.paper_optimizer(200, 4096)
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, warmup / 2, warmup, 200)]
    peak = 64 * factor
    np.testing.assert_allclose(rates, [0, peak / 2, peak, 0], rtol=1e-5, atol=1e-6)
    assert (optimizer.weight_decay, optimizer.velocity) == (1e-4, "update")
    schedule = small.paper_optimizer(200, 512)._learning_rate
    np.testing.assert_allclose(float(schedule(warmup)), 2.0, rtol=1e-5)


def test_first_layer_of_the_head_ends_the_encoder():
    model = trained()
    encoder = model.encoder(1)
    x = images(6, dtype="float32")
    features = np.array(encoder(x))
    assert features.shape == (6, 8) and (features >= 0).all() and (features == 0).any()
    head = [layer for layer in encoder._flatten_layers() if isinstance(layer, keras.layers.Dense)]
    assert len(head) == 1
    by_hand = np.array(model.backbone(x))
    for layer in model.projector.layers[1:4]:
        by_hand = layer(by_hand)
    np.testing.assert_allclose(features, by_hand, rtol=1e-5, atol=1e-6)


def test_without_the_head_it_is_the_backbone():
    model, x = trained(), images(6, dtype="float32")
    np.testing.assert_allclose(model.encoder(0)(x), model.encode(x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(model.encoder(2)(x), model.encoder(1)(x))


def test_fine_tuning_moves_backbone_and_one_layer_of_the_head():
    model = trained()
    encoder = model.encoder(1)
    logits = keras.layers.Dense(3, kernel_initializer="zeros")
    classifier = keras.Model(encoder.input, logits(encoder.output))
    x, y = images(24, dtype="float32"), np.arange(24) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(0.01), loss)
    np.testing.assert_allclose(classifier.evaluate(x, y, verbose=0), np.log(3), rtol=1e-5)
    before = {w.path: w.numpy() for w in model.trainable_variables}
    losses = classifier.fit(x, y, epochs=8, batch_size=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    moved = {w.path for w in model.trainable_variables if not np.array_equal(w, before[w.path])}
    stays = {w.path for w in model.projector.trainable_variables[3:]}
    assert moved == set(before) - stays
    assert len(classifier.trainable_variables) == len(model.backbone.trainable_variables) + 3 + 2


def test_encoder_saves_and_loads(tmp_path):
    encoder, x = trained().encoder(1), images(4, dtype="float32")
    encoder.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(again(x), encoder(x))
    assert len(again.trainable_variables) == len(encoder.trainable_variables)


def test_encoder_of_a_loaded_method(tmp_path):
    model, x = trained(), images(4, dtype="float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert again.version == 2
    np.testing.assert_array_equal(again.encoder(1)(x), model.encoder(1)(x))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`version` must be 1 or 2. Received: version=3"):
        simclr(3)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        simclr(temperature=0.0)
    with pytest.raises(ValueError, match="`layers` must be from 0 to 2"):
        simclr().encoder(3)
