"""Autoencoder: principal components, sums over dimensions, what it offers."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

from keras_ssl import Autoencoder
from keras_ssl.backbones import Backbone
from keras_ssl.ops import decode_lines


def linear(directions, mean):
    """A linear autoencoder of 4 x 4 grey images with these directions, orthonormal rows."""
    pixels = keras.Input((4, 4, 1))
    backbone = Backbone(keras.Model(pixels, keras.layers.Flatten()(pixels)), name="pixels")
    bottleneck = keras.Sequential([keras.Input((16,)), keras.layers.Dense(len(directions))])
    flat = [keras.Input((len(directions),)), keras.layers.Dense(16)]
    decoder = keras.Sequential([*flat, keras.layers.Reshape((4, 4, 1))])
    bottleneck.set_weights([directions.T, -directions @ mean])
    decoder.set_weights([directions, mean])
    return Autoencoder(backbone, bottleneck, decoder, latent_dim=len(directions))


def test_the_best_linear_one_has_the_principal_components():
    """Its loss is the sum of the eigenvalues left out, and its gradient is zero there."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = (rng.random((500, 16)) @ rng.random((16, 16)) / 16).astype("float32")
    mean, values = x.mean(0), np.linalg.eigh(np.cov(x.T, bias=True))
    model = linear(values.eigenvectors.T[-3:].astype("float32"), mean)
    batch = {"views": (x.reshape(-1, 4, 4, 1),)}
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=True)["loss"]
    assert float(loss) == pytest.approx(values.eigenvalues[:-3].sum(), rel=1e-4)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert max(np.abs(g).max() for g in gradients) < 1e-4
    other = linear(np.linalg.qr(rng.normal(size=(16, 3)))[0].T.astype("float32"), mean)
    assert float(other.compute_losses(batch, training=True)["loss"]) > float(loss)


@pytest.mark.parametrize("error", ["squared", "cross_entropy"])
def test_loss_is_a_sum_over_an_image_and_a_mean_over_images(error):
    model = Autoencoder(tiny_backbone(), latent_dim=6, error=error)
    x = images(16, dtype="float32")
    maps = np.array(model.decoder(model.embed(x)), "float64")
    if error == "squared":
        expected = ((x - maps) ** 2).sum((1, 2, 3)).mean()
    else:
        p = 1 / (1 + np.exp(-maps))
        expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3)).mean()
    assert float(model.compute_losses({"views": (x,)}, training=False)["loss"]) == pytest.approx(
        expected, rel=1e-4
    )
    made = np.array(model.reconstruct(x))
    assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1


def test_interpolations_begin_and_end_with_the_reconstructions():
    model = Autoencoder(tiny_backbone(), latent_dim=6)
    a, b = images(3, seed=1), images(3, seed=2)
    line = np.array(model.interpolate(a, b, 5))
    assert line.shape == (3, 5, 8, 8, 3)
    np.testing.assert_allclose(line[:, 0], model.reconstruct(a), atol=1e-5)
    np.testing.assert_allclose(line[:, -1], model.reconstruct(b), atol=1e-5)
    with pytest.raises(ValueError, match="`steps` must be >= 2"):
        decode_lines(model.decoder, model.embed(a), model.embed(b), 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"error": "absolute"}, "`error` must be one of"),
        ({"latent_dim": 0}, "`latent_dim` must be >= 1"),
        (
            {
                "latent_dim": 5,
                "decoder": keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]),
            },
            "`decoder`",
        ),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(tiny_backbone(), **options)
