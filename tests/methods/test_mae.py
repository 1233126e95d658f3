"""What MAE hides, what it predicts, and what costs nothing."""

import keras
import numpy as np
import pytest
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import MAE, backbones
from keras_ssl.ops import masking


def transformer(shape=(16, 16, 3), **options):
    return backbones.vit(8, 2, 2, shape, 4, pooling="avg", positions="sincos", **options)


def batch_of(n=6, places=16, seed=0):
    noise = np.random.default_rng(seed).random((n, places)).astype("float32")
    pixels = images(n, (16, 16, 3), seed, "float32")
    return {"views": (ops.convert_to_tensor(pixels),), "mask_noise": ops.convert_to_tensor(noise)}


def constant_decoder(value=0.0, visible=4):
    """Predicts one number for every pixel."""
    tokens, order = keras.Input((1 + visible, 8)), keras.Input((16,), dtype="int32")
    x = keras.layers.Dense(16 * 48, kernel_initializer="zeros")(ops.mean(tokens, axis=1))
    x = keras.layers.Reshape((16, 48))(x) + value
    return keras.Model([tokens, order], x)


def loss_of(model, batch):
    return float(model.compute_losses(batch, training=False)["loss"])


def test_a_decoder_of_zeros_costs_what_the_unbiased_variance_leaves():
    """Normalised by the variance with P - 1: the mean square of P pixels is (P - 1) / P."""
    model = MAE(transformer(), constant_decoder())
    assert loss_of(model, batch_of()) == pytest.approx(47 / 48, rel=1e-3)


def test_loss_is_the_error_of_hidden_patches_alone():
    model = MAE(transformer(), constant_decoder(0.25), normalize_pixels=False)
    batch = batch_of()
    patches = np.array(masking.patchify(batch["views"][0], 4))
    hidden = np.array(masking.hidden_places(masking.random_order(batch["mask_noise"]), 4))
    assert (hidden.sum(axis=1) == 12).all()
    errors = ((patches - 0.25) ** 2).mean(axis=-1)
    assert loss_of(model, batch) == pytest.approx((errors * hidden).sum() / hidden.sum(), rel=1e-5)


def test_hidden_patches_have_no_way_into_the_encoder():
    model, batch = MAE(transformer()), batch_of()
    order = masking.random_order(batch["mask_noise"])
    hidden = masking.hidden_places(order, model.visible)[:, :, None]
    patches = masking.patchify(batch["views"][0], 4)
    other = masking.unpatchify(patches * (1 - hidden) + 0.9 * hidden, (4, 4), 4)
    first = np.array(model._predict(batch["views"][0], order, False))
    np.testing.assert_allclose(model._predict(other, order, False), first, atol=1e-6)
    shown = masking.unpatchify(patches * hidden + 0.9 * (1 - hidden), (4, 4), 4)
    assert np.abs(np.array(model._predict(shown, order, False)) - first).max() > 1e-3


def test_the_encoder_gets_a_quarter_of_the_patches_and_the_class_token():
    model = MAE(transformer())
    assert (model.length, model.visible) == (16, 4)
    assert model.decoder.input_shape[0] == (None, 5, 8)
    assert MAE(transformer(), mask_rate=0.99).visible == 1


def test_visible_patches_keep_their_positions():
    """With none hidden but one the encoder gives what it gives of whole images, in other order."""
    model = MAE(transformer(), mask_rate=1 / 16)
    batch, parts = batch_of(), model._parts
    tokens = parts.positions(parts.patches(batch["views"][0]))
    order = masking.random_order(batch["mask_noise"])
    seen = ops.concatenate([tokens[:, :1], masking.first_places(tokens[:, 1:], order, 16)], axis=1)
    found = np.array(masking.in_place(parts.blocks(seen)[:, 1:], order))
    whole = np.array(model.backbone.feature_map(batch["views"][0])).reshape(6, 16, 8)
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_reconstructions_keep_what_is_visible():
    model, pixels = MAE(transformer()), images(5, (16, 16, 3))
    made = np.array(model.reconstruct(pixels))
    assert made.shape == pixels.shape and made.min() >= 0 and made.max() <= 1
    same = np.isclose(made, pixels / 255, atol=1e-6).reshape(5, 4, 4, 4, 4, 3).all((2, 4, 5))
    assert (same.sum((1, 2)) == 4).all() and (same == same[:1]).all()
    np.testing.assert_array_equal(made, model.reconstruct(pixels))
    masked = np.array(model.mask(pixels)).reshape(5, 4, 4, 4, 4, 3).swapaxes(2, 3)
    grey = (masked == 0.5).all((3, 4, 5))
    np.testing.assert_array_equal(grey, ~same)
    seen = same.repeat(4, axis=1).repeat(4, axis=2)  # (B, 16, 16)
    masked = masked.swapaxes(2, 3).reshape(pixels.shape)
    np.testing.assert_allclose(masked[seen], (pixels / 255)[seen], atol=1e-6)


def test_registers_are_seen_by_encoder_and_decoder():
    """As many tokens more; all patches keep their places."""
    backbone = backbones.vit(8, 1, 2, (16, 16, 3), registers=2, pooling="avg")
    model = MAE(backbone)
    assert model.decoder.input_shape[0] == (None, 3 + 4, 8)
    made = np.array(model.reconstruct(images(2, (16, 16, 3))))
    assert made.shape == (2, 16, 16, 3) and np.isfinite(made).all()


def test_default_views_and_network():
    model = keras_ssl.create("mae", (32, 32, 3))
    assert model.backbone.name == "vit_tiny" and model.length == 64
    made = model.default_views((32, 32))(ops.convert_to_tensor(images(1, (32, 32, 3))[0]), (0, 1))
    assert made["views"][0].shape == (32, 32, 3) and made["mask_noise"].shape == (64,)


def test_the_papers_decoder():
    parts = keras_ssl.methods.mae.mae_decoder((14, 14), 768, 49, 768, 512, 8, 16)
    # Dense 768 to 512, token, 8 blocks of 12 d^2 + 13 d numbers, norm, Dense 512 to 768
    expected = 768 * 512 + 512 + 512 + 8 * (12 * 512**2 + 13 * 512) + 2 * 512 + 512 * 768 + 768
    assert parts.count_params() == expected


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`mask_rate` must be in \(0, 1\). Received: mask_rate=1"):
        MAE(transformer(), mask_rate=1)
    with pytest.raises(ValueError, match="`backbone` must be a vision transformer.*gives a map"):
        MAE(tiny_backbone())
    with pytest.raises(ValueError, match=r"`decoder` must give \(16, 48\).*Received.*\(4, 48\)"):
        MAE(transformer(), keras_ssl.methods.mae.mae_decoder((2, 2), 8, 2, 48, 8, 1, 2))
