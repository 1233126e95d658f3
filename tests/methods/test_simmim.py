"""What SimMIM hides, what it predicts, and what gets no gradient."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from methods.test_mae import transformer
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import SimMIM
from keras_ssl.ops import masking


def batch_of(n=6, units=4, seed=0):
    noise = np.random.default_rng(seed).random((n, units)).astype("float32")
    pixels = images(n, (16, 16, 3), seed, "float32")
    return {"views": (ops.convert_to_tensor(pixels),), "mask_noise": ops.convert_to_tensor(noise)}


def constant_head(value):
    tokens = keras.Input((16, 8))
    return keras.Model(tokens, keras.layers.Dense(48, kernel_initializer="zeros")(tokens) + value)


def loss_of(model, batch):
    return float(model.compute_losses(batch, training=False)["loss"])


def test_a_unit_is_hidden_or_seen_as_a_whole_and_their_number_is_exact():
    model = SimMIM(transformer(), mask_unit=8)
    hidden = np.array(model._hidden_patches(batch_of()["mask_noise"])).reshape(6, 2, 2, 2, 2)
    assert (hidden == hidden[:, :, :1, :, :1]).all()
    assert (hidden.sum((1, 2, 3, 4)) == 4 * math.ceil(4 * 0.6)).all()
    assert len(np.unique(hidden.reshape(6, -1), axis=0)) > 1


def test_loss_is_the_absolute_error_of_hidden_pixels_of_the_normalised_image():
    model, batch = SimMIM(transformer(), constant_head(0.5)), batch_of()
    hidden = np.array(model._hidden_patches(batch["mask_noise"]))
    normalised = (np.array(batch["views"][0]) - 0.5) / 0.25
    patches = np.array(masking.patchify(normalised, 4))
    expected = (np.abs(patches - 0.5).mean(-1) * hidden).sum() / hidden.sum()
    assert loss_of(model, batch) == pytest.approx(expected, rel=1e-5)


def test_a_shift_costs_its_size_and_a_perfect_head_nothing():
    grey = ops.full((6, 16, 16, 3), 0.75)  # 1 as the backbone normalises it
    batch = {**batch_of(), "views": (grey,)}
    assert loss_of(SimMIM(transformer(), constant_head(1.0)), batch) == pytest.approx(0, abs=1e-6)
    assert loss_of(SimMIM(transformer(), constant_head(1.3)), batch) == pytest.approx(0.3, rel=1e-5)


def test_no_gradient_reaches_visible_pixels_predictions():
    """Of one image: a number added to each pixel's prediction."""
    tokens = keras.Input((16, 8))
    layer = keras.layers.EinsumDense("btd,dp->btp", (16, 48), bias_axes="tp")
    model, batch = SimMIM(transformer(), keras.Model(tokens, layer(tokens))), batch_of(1)
    hidden = np.array(model._hidden_patches(batch["mask_noise"]))[0]
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=False)["loss"]
    gradient = np.abs(np.array(tape.gradient(loss, layer.bias.value)))  # (patches, pixels)
    assert not gradient[hidden == 0].any() and gradient[hidden == 1].all()


def test_hidden_pixels_have_no_way_in():
    model, batch = SimMIM(transformer()), batch_of()
    hidden = model._hidden_patches(batch["mask_noise"])
    patches = masking.patchify(batch["views"][0], 4)
    other = patches * (1 - hidden[:, :, None]) + 0.9 * hidden[:, :, None]
    other = masking.unpatchify(other, (4, 4), 4)
    first = model._predict(batch["views"][0], hidden, False)
    np.testing.assert_allclose(model._predict(other, hidden, False), first, atol=1e-6)


def test_reconstructions_keep_what_is_visible_and_undo_the_normalisation():
    model = SimMIM(transformer(), constant_head(0.4))
    pixels = images(5, (16, 16, 3))
    made = np.array(model.reconstruct(pixels))
    hidden = ~np.isclose(made, pixels / 255, atol=1e-6).all(axis=-1)
    assert hidden.mean() > 0.6
    np.testing.assert_allclose(made[hidden], 0.5 + 0.25 * 0.4, atol=1e-5)
    masked = np.array(model.mask(pixels))
    np.testing.assert_allclose(masked[hidden], 0.5)
    np.testing.assert_allclose(masked[~hidden], (pixels / 255)[~hidden], atol=1e-6)


def test_defaults():
    model = keras_ssl.create("simmim", (32, 32, 3), "small_vit")
    assert model.mask_unit == 8
    made = model.default_views((32, 32))(ops.convert_to_tensor(images(1, (32, 32, 3))[0]), (0, 1))
    assert made["mask_noise"].shape == (16,)
    assert SimMIM(transformer((64, 64, 3))).mask_unit == 32


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`mask_rate` must be in \(0, 1\). Received: mask_rate=0"):
        SimMIM(transformer(), mask_rate=0)
    with pytest.raises(ValueError, match="`mask_unit` must divide.*Received: mask_unit=6"):
        SimMIM(transformer(), mask_unit=6)
    with pytest.raises(ValueError, match="`backbone` must be a vision transformer"):
        SimMIM(tiny_backbone())
    with pytest.raises(ValueError, match=r"`head` must give \(16, 48\).*Received.*\(16, 8\)"):
        SimMIM(transformer(), keras.Sequential([keras.Input((16, 8)), keras.layers.Dense(8)]))
