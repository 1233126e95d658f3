import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from toys import images, tiny_backbone

from keras_ssl import data, losses, optimizers
from keras_ssl.backbones import Backbone
from keras_ssl.layers.discriminators import pair_discriminator
from keras_ssl.methods.bigan import BiGAN

CANNOT_TELL = 2 * math.log(2)


def make(**kwargs):
    return BiGAN(tiny_backbone(), latent_dim=6, **kwargs)


def batch_of(n=16, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n, 6)).astype("float32")
    return {"views": (images(n, seed=seed, dtype="float32"),), "latent_noise": noise}


def compiled(discriminator=0.1, generator=0.1):
    """With plain gradient descent of these rates; 0 holds a player still."""
    model = make()
    sgd = keras.optimizers.SGD
    model.compile(optimizers.Players(discriminator=sgd(discriminator), generator=sgd(generator)))
    model.build_optimizer()
    return model


def values(variables):
    return [np.array(v) for v in variables]


def moved(before, variables):
    return [bool(np.any(old != np.array(v))) for old, v in zip(before, variables)]


# --- The objective


def test_undecided_discriminator():
    model = make()
    last = model.discriminator.get_layer("discriminator_logit")
    last.kernel.assign(ops.zeros_like(last.kernel))
    for value in model.compute_losses(batch_of(), training=True).values():
        assert float(value) == pytest.approx(CANNOT_TELL, rel=1e-6)


def test_real_pairs_are_images_with_encodings_and_fake_ones_generated_with_latents():
    model, batch = make(), batch_of()
    x, z = batch["views"][0], batch["latent_noise"]
    real = model.discriminator([ops.convert_to_tensor(x), model.latent(x)])
    fake = model.discriminator([model.generator(z), ops.convert_to_tensor(z)])
    got = model.compute_losses(batch, training=False)
    assert list(got) == list(model.loss_names)
    expected = {
        "loss": losses.joint_generator_loss(real, fake),
        "discriminator_loss": losses.discriminator_loss(real, fake),
    }
    for name, value in expected.items():
        assert float(got[name]) == pytest.approx(float(value), rel=1e-5)
    assert abs(float(np.mean(real)) - float(np.mean(fake))) > 1e-5


def test_real_and_fake_pairs_have_batch_statistics_of_their_own():
    model, batch = make(), batch_of()
    x, z = ops.convert_to_tensor(batch["views"][0]), ops.convert_to_tensor(batch["latent_noise"])
    real, fake = model._logits(batch, training=True)
    encodings, fakes = model._encode(x, training=True), model.generator(z, training=True)
    expected_real = model.discriminator([x, encodings], training=True)
    expected_fake = model.discriminator([fakes, z], training=True)
    np.testing.assert_allclose(real, expected_real, atol=1e-5)
    np.testing.assert_allclose(fake, expected_fake, atol=1e-5)


def test_the_encoding_is_linear_in_the_features_and_of_the_scale_of_z():
    """No step of the discriminator sees the scale of all encodings: its statistics divide by it."""
    model, x = make(), images(16)
    features = np.array(model.backbone(x, training=True))
    (kernel,) = model.encoder_head.trainable_variables
    encodings, epsilon = features @ np.array(kernel), model.encoder_head.layers[-1].epsilon
    deviation = np.sqrt(encodings.var(axis=0) + epsilon)
    expected = (encodings - encodings.mean(axis=0)) / deviation
    np.testing.assert_allclose(model._encode(x, training=True), expected, atol=1e-3)


def test_gradients_come_to_the_encoder_through_latents_and_to_the_generator_through_images():
    """Cutting z out of the discriminator leaves the encoder without gradient, and so on."""
    for cut, still, moving in (
        ("dense_latent", "encoder_head", "generator"),
        ("conv1", "generator", "encoder_head"),
    ):
        model, batch = make(), batch_of()
        kernel = model.discriminator.get_layer(f"discriminator_{cut}").kernel
        kernel.assign(ops.zeros_like(kernel))
        watched = {name: getattr(model, name).trainable_variables for name in (still, moving)}
        with tf.GradientTape() as tape:
            loss = model.compute_losses(batch, training=True)["loss"]
        grads = tape.gradient(loss, {n: [v.value for v in vs] for n, vs in watched.items()})
        sizes = {
            name: sum(0.0 if g is None else float(np.abs(g).sum()) for g in own)
            for name, own in grads.items()
        }
        assert sizes[still] == 0 < sizes[moving]


# --- The turns


def test_each_variable_has_one_player():
    model = make()
    everyone = [id(v) for player in model.players.values() for v in player]
    assert len(everyone) == len(set(everyone))
    assert set(everyone) == {id(v) for v in model.trainable_variables}
    assert list(model.players) == ["discriminator", "generator"]


def test_a_player_moves_its_own_variables_alone():
    for rates, mover in (((0.1, 0.0), "discriminator"), ((0.0, 0.1), "generator")):
        model = compiled(*rates)
        before = {name: values(own) for name, own in model.players.items()}
        model.update(batch_of())
        for name, own in model.players.items():
            assert any(moved(before[name], own)) == (name == mover)


def test_encoder_and_generator_answer_the_new_discriminator():
    """The discriminator's loss is that before its step, the others' that after it."""
    model, batch = compiled(discriminator=0.02, generator=0.0), batch_of()
    before = model.compute_losses(batch, training=True)
    reported = model.update(batch)
    assert list(reported) == list(model.loss_names)
    after = model.compute_losses(batch, training=True)
    assert float(reported["loss"]) == pytest.approx(float(after["loss"]), rel=1e-4)
    name = "discriminator_loss"
    assert float(reported[name]) == pytest.approx(float(before[name]), rel=1e-4)
    assert abs(float(after["loss"]) - float(before["loss"])) > 1e-3
    assert float(after[name]) < float(before[name]) - 1e-3


def test_nothing_of_the_discriminator_moves_in_its_opponents_turn():
    """Its running statistics move in its own turn, with the real pairs and then with the fake."""
    model, batch = compiled(discriminator=0.0, generator=0.1), batch_of()
    layer = model.discriminator.get_layer("discriminator_dense_bn")
    layer.momentum, inputs = 0.5, []
    watched = keras.Model(model.discriminator.inputs, layer.input)
    x, z = ops.convert_to_tensor(batch["views"][0]), ops.convert_to_tensor(batch["latent_noise"])
    encodings, fakes = model._encode(x, training=True), model.generator(z, training=True)
    for pair in ((x, encodings), (fakes, z)):
        inputs.append(np.array(watched(list(pair), training=False)).mean(axis=0))
    model.update(batch)
    expected = 0.25 * inputs[0] + 0.5 * inputs[1]
    np.testing.assert_allclose(layer.moving_mean, expected, atol=1e-4 * np.abs(expected).max())


def test_running_statistics_move_twice_a_step():
    model = compiled(discriminator=0.1, generator=0.0)
    norm = model.generator.get_layer("generator_start_bn")
    norm.momentum, batch = 0.5, batch_of()
    dense = np.array(batch["latent_noise"] @ np.array(model.generator.layers[1].kernel))
    mean = dense.reshape(-1, norm.moving_mean.shape[0]).mean(0)
    model.update(batch)
    np.testing.assert_allclose(norm.moving_mean, 0.75 * mean, rtol=1e-3, atol=1e-5)


# --- The theory, on images of one grey value: x = sigmoid(z)


def grey_game(sign):
    """G(z) = sigmoid(z) everywhere in an image; E(x) = sign * logit(x), the inverse for 1."""
    pixels = keras.Input((4, 4, 1))
    mean = keras.layers.GlobalAveragePooling2D()(pixels)
    inverse = keras.layers.Lambda(lambda t: keras.ops.log(t / (1 - t)))(mean)
    features, z = keras.Input((1,)), keras.Input((1,))
    head = keras.Model(features, keras.layers.Dense(1, use_bias=False)(features))
    head.set_weights([np.full((1, 1), sign, "float32")])
    grey = keras.layers.Activation("sigmoid")(z)
    generator = keras.Model(z, keras.layers.Reshape((4, 4, 1))(keras.layers.RepeatVector(16)(grey)))
    backbone = Backbone(keras.Model(pixels, inverse))
    discriminator = pair_discriminator((4, 4, 1), 1, widths=(8,), hidden=32)
    return BiGAN(backbone, head, generator, discriminator, latent_dim=1)


@pytest.mark.parametrize("sign, told_apart", [(1.0, False), (-1.0, True)])
def test_only_the_inverse_cannot_be_told_apart(sign, told_apart):
    """Theorem 2 of the paper: where E inverts G, the best discriminator's loss is 2 log 2."""
    keras.utils.set_random_seed(0)
    model, rng = grey_game(sign), np.random.default_rng(0)
    adam, still = keras.optimizers.Adam(2e-3), keras.optimizers.SGD(0.0)
    model.compile(optimizers.Players(discriminator=adam, generator=still))
    model.build_optimizer()
    step, history = tf.function(model.update), []
    for _ in range(250):
        draws = rng.standard_normal((2, 64, 1)).astype("float32")
        x = 1 / (1 + np.exp(-draws[0, :, :, None, None])) * np.ones((1, 4, 4, 1))
        x = x.reshape(64, 4, 4, 1).astype("float32")
        batch = {"views": (tf.constant(x),), "latent_noise": tf.constant(draws[1])}
        history.append(float(step(batch)["discriminator_loss"]))
    late = np.mean(history[-30:])
    assert late < CANNOT_TELL - 0.2 if told_apart else abs(late - CANNOT_TELL) < 0.03


# --- Pictures, views, errors


def test_reconstruction_is_the_generators_image_of_the_encoding():
    model, x = make(), images(3)
    pictures = np.array(model.reconstruct(x))
    np.testing.assert_allclose(pictures, model.generator(model.latent(x)), atol=1e-6)
    assert pictures.shape == (3, 8, 8, 3) and 0 <= pictures.min() < pictures.max() <= 1


def test_samples_follow_their_seed():
    model = make()
    a, b, c = (np.array(model.sample(4, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3 and a.shape == (4, 8, 8, 3)


def test_default_views_make_the_batch():
    model = make()
    batch = next(iter(data.stream(data.load(images(16)), model.default_views((8, 8)), 16, seed=0)))
    assert set(model.batch_keys) <= set(batch) and batch["latent_noise"].shape == (16, 6)


def test_default_optimizer_is_one_for_each_player():
    model = make()
    optimizer = model.paper_optimizer(100, 16)
    assert list(optimizer.players) == list(model.players)
    for adam in optimizer.players.values():
        assert (float(adam.learning_rate), adam.beta_1) == (pytest.approx(2e-4), 0.5)
        rates = [float(adam._learning_rate(step)) for step in (49, 75, 100)]
        np.testing.assert_allclose(rates, [2e-4, 2e-5, 2e-6], rtol=1e-5)
        assert adam.weight_decay == 5e-5 and adam.exclude_1d


def test_short_runs_have_a_higher_rate_alone():
    model = make()
    below = model.short_run.below
    for steps, rate in ((below - 1, model.short_run.learning_rate), (below, 2e-4)):
        for adam in model.default_optimizer(steps, 16).players.values():
            rates = [float(adam._learning_rate(step)) for step in (0, steps)]
            np.testing.assert_allclose(rates, [rate, rate / 100], rtol=1e-5)
            assert adam.beta_1 == 0.5


def test_errors():
    with pytest.raises(ValueError, match="`latent_dim` must be >= 1. Received: latent_dim=0"):
        BiGAN(tiny_backbone(), latent_dim=0)
    other = BiGAN(tiny_backbone(), latent_dim=5)
    with pytest.raises(ValueError, match=r"`encoder_head` must give \(6,\)"):
        make(encoder_head=other.encoder_head)
    with pytest.raises(ValueError, match=r"`generator` must give \(8, 8, 3\)"):
        make(generator=other.encoder_head)
