import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_ssl.layers.discriminators import pair_discriminator

SHAPE = (16, 16, 3)


def pairs(n=12, shape=SHAPE, latent_dim=5, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(size=(n, *shape)).astype("float32"),
        rng.standard_normal((n, latent_dim)).astype("float32"),
    ]


def make(**kwargs):
    return pair_discriminator(SHAPE, 5, **{"widths": (8, 12), "hidden": 10, **kwargs})


def kernel(discriminator, name):
    return discriminator.get_layer(f"discriminator_{name}").kernel


def test_is_the_network_of_the_equation():
    """In training, with batch statistics; z is added to every layer but the first."""
    discriminator, (images, z) = make(), pairs()

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def conv(x, name):
        return np.array(ops.conv(x, kernel(discriminator, name), 2, "same"))

    def normalised(x):
        axes = tuple(range(x.ndim - 1))
        return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)

    x = leaky(conv(2 * images - 1, "conv1"))
    latent = z @ np.array(kernel(discriminator, "conv2_latent"))
    x = leaky(normalised(conv(x, "conv2") + latent[:, None, None])).reshape(len(z), -1)
    x = x @ np.array(kernel(discriminator, "dense"))
    x = leaky(normalised(x + z @ np.array(kernel(discriminator, "dense_latent"))))
    expected = x @ np.array(kernel(discriminator, "logit"))
    got = np.array(discriminator([images, z], training=True))
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_a_logit_tells_at_the_start_which_latent_goes_with_an_image():
    discriminator, (images, z) = make(), pairs()
    logits = np.array(discriminator([images, z], training=True))
    swapped = np.array(discriminator([images, np.roll(z, 1, axis=0)], training=True))
    # Not by a sum of a function of the image and one of the latent, which pairing leaves as it is.
    assert np.abs(swapped - logits).mean() > 0.1 * logits.std()
    assert abs((swapped - logits).mean()) > 1e-6


@pytest.mark.parametrize("open_stage", ["conv2", "conv3", "dense", None])
def test_the_latent_has_a_gradient_through_every_stage(open_stage):
    discriminator, (images, z) = make(widths=(8, 12, 16)), pairs()
    for stage in ("conv2", "conv3", "dense"):
        if stage != open_stage:
            own = kernel(discriminator, f"{stage}_latent")
            own.assign(ops.zeros_like(own))
    images, z = tf.constant(images), tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        # A sum of logits would be constant: batch normalisation takes out what all pairs share.
        logits = discriminator([images, z], training=True)
        loss = tf.reduce_sum(tf.square(logits))
    sizes = np.abs(np.array(tape.gradient(loss, z))).sum(axis=1)
    assert np.all(sizes > 1e-6) if open_stage else np.all(sizes == 0)


def test_default_widths_and_where_there_are_biases():
    discriminator = pair_discriminator((32, 32, 3), 7)
    convs = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [conv.filters for conv in convs] == [64, 128, 256]
    assert kernel(discriminator, "dense").shape == (4 * 4 * 256, 1024)
    assert kernel(discriminator, "conv3_latent").shape == (7, 256)
    names = [v.path.rsplit("/", 1)[-1] for v in discriminator.trainable_variables]
    assert set(names) == {"kernel", "gamma", "beta"} and names.count("beta") == 3


@pytest.mark.parametrize(
    "shape, widths, hidden", [(SHAPE, (8,), 4), (SHAPE, (8, 8), None), ((5, 7, 1), None, 4)]
)
def test_shapes(shape, widths, hidden):
    discriminator = pair_discriminator(shape, 5, widths, hidden)
    logits = discriminator(pairs(3, shape))
    assert logits.shape == (3, 1) and logits.dtype == "float32"


def test_logits_are_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert make()(pairs(), training=True).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("arguments", [{"widths": ()}, {"widths": (8, 0)}, {"hidden": 0}], ids=str)
def test_sizes_must_be_positive(arguments):
    with pytest.raises(ValueError, match="must be positive, with one width at least. Received: "):
        make(**arguments)
    with pytest.raises(ValueError, match="Received: latent_dim=0, "):
        pair_discriminator(SHAPE, 0)


def test_the_latent_must_enter_somewhere():
    with pytest.raises(ValueError, match=r"two `widths` or a `hidden` layer. Received: widths="):
        make(widths=(8,), hidden=None)
