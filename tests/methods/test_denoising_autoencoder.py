"""Denoising autoencoder: what is corrupted, what counts, and the best linear denoiser."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

from keras_ssl import Autoencoder, DenoisingAutoencoder
from keras_ssl.backbones import Backbone

KINDS = ("masking", "gaussian", "salt_and_pepper")


def make(**options):
    keras.utils.set_random_seed(0)
    return DenoisingAutoencoder(tiny_backbone(), latent_dim=6, **options)


def noise(model, count, seed=0, side=8):
    rng = np.random.default_rng(seed)
    shape = (count, side, side, 1 if model.unit == "pixel" else 3)
    if model.corruption == "gaussian":
        return rng.standard_normal((count, side, side, 3)).astype("float32")
    return rng.random(shape).astype("float32")


@pytest.mark.parametrize("unit", ["pixel", "element"])
@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
def test_the_share_of_what_is_replaced_and_by_what(corruption, unit):
    model = make(corruption=corruption, unit=unit, level=0.3)
    x = 0.2 + 0.5 * images(400, dtype="float32")
    seen, corrupted = map(np.array, model.corrupt(x, noise(model, 400)))
    changed = np.broadcast_to(corrupted, x.shape) == 1
    np.testing.assert_array_equal(seen != x, changed)
    deviation = np.sqrt(0.3 * 0.7 / corrupted.size)
    assert abs(corrupted.mean() - 0.3) < 4 * deviation
    values, counts = np.unique(seen[changed], return_counts=True)
    if corruption == "masking":
        assert values.tolist() == [0]
    else:
        assert values.tolist() == [0, 1] and abs(counts[0] / counts.sum() - 0.5) < 0.02
    if unit == "pixel":  # whole pixels, so that no channel tells another
        assert np.all(changed.all(axis=-1) | ~changed.any(axis=-1))


def test_gaussian_noise_is_added_and_not_clipped():
    model, x = make(corruption="gaussian", level=0.5), images(50, dtype="float32")
    seen, corrupted = map(np.array, model.corrupt(x, noise(model, 50)))
    assert corrupted.min() == 1 and seen.min() < 0 and seen.max() > 1
    assert np.std(seen - x) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("corruption", KINDS)
def test_without_corruption_it_is_an_autoencoder(corruption):
    model, x = make(corruption=corruption, level=0.0), images(16, dtype="float32")
    plain = Autoencoder(model.backbone, model.bottleneck, model.decoder, latent_dim=6)
    own = model.compute_losses({"views": (x,), "corruption_noise": noise(model, 16)}, False)
    assert float(own["loss"]) == float(plain.compute_losses({"views": (x,)}, False)["loss"])


@pytest.mark.parametrize("error", ["squared", "cross_entropy"])
def test_emphasis_weighs_corrupted_and_other_places(error):
    model, x = make(error=error), images(16, dtype="float32")
    batch = {"views": (x,), "corruption_noise": noise(model, 16)}
    found = {}
    for pair in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (2.0, 0.5)):
        model.emphasis = pair
        found[pair] = float(model.compute_losses(batch, training=False)["loss"])
    corrupted, others = found[1.0, 0.0], found[0.0, 1.0]
    assert found[1.0, 1.0] == pytest.approx(corrupted + others, rel=1e-5)
    assert found[2.0, 0.5] == pytest.approx(2 * corrupted + 0.5 * others, rel=1e-5)
    seen, where = model.corrupt(x, batch["corruption_noise"])
    maps = np.array(model.decoder(model.embed(seen)))
    if error == "squared":
        expected = (np.array(where) * (x - maps) ** 2).sum((1, 2, 3)).mean()
        assert corrupted == pytest.approx(expected, rel=1e-4)


def test_the_best_linear_denoiser_shrinks_by_the_share_of_the_signal():
    """Of x ~ N(0, s^2) and noise of deviation t it is x~ s^2 / (s^2 + t^2): no gradient there."""
    import tensorflow as tf

    s, t, count = 0.7, 0.5, 4000
    pixels = keras.Input((2, 2, 1))
    backbone = Backbone(keras.Model(pixels, keras.layers.Flatten()(pixels)), name="pixels")
    bottleneck = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2, 1))])
    model = DenoisingAutoencoder(
        backbone, bottleneck, decoder, latent_dim=4, corruption="gaussian", level=t
    )
    rng = np.random.default_rng(0)
    x, eps = rng.standard_normal((2, count, 2, 2, 1)).astype("float32")
    batch = {"views": (s * x,), "corruption_noise": eps}

    def slope(shrink):
        bottleneck.set_weights([shrink * np.eye(4, dtype="float32"), np.zeros(4)])
        kernel = bottleneck.trainable_variables[0].value
        with tf.GradientTape() as tape:
            loss = model.compute_losses(batch, training=True)["loss"]
        return np.array(tape.gradient(loss, kernel))

    best = s**2 / (s**2 + t**2)
    assert np.abs(slope(best)).max() < 0.08  # a few standard errors of 4000 images
    assert slope(best + 0.2).diagonal().min() > 0.2 and slope(best - 0.2).diagonal().max() < -0.2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"corruption": "blur"}, "`corruption` must be one of"),
        ({"level": 1.5}, "`level` must be a share in"),
        ({"unit": "patch"}, "`unit` must be one of"),
        ({"emphasis": (1.0, -1.0)}, "`emphasis` must be two numbers >= 0"),
        ({"corruption": "gaussian", "emphasis": (1.0, 0.0)}, "for corruptions that leave"),
        ({"error": "absolute"}, "`error` must be one of"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
