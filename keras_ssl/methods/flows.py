"""What normalising flows share: the bound of the likelihood, images from latents, the start.

A method of this kind has a `flow`, a layer of `keras_ssl.layers.flows` from pixels y in [0, 1] to
the vector z, and a `prior`, "normal" or "logistic", of the values of z. With k the 8-bit values of
an image, u uniform noise and D dimensions,

    log P(k) >= E_u[ log p(z) + log |det dz/dy| ] - D log 256,    y = (k + u) / 256,

(`ops.dequantized`); one draw of u is what is trained on and told.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_ssl import losses, views
from keras_ssl.layers import couplings
from keras_ssl.layers.coupling_networks import hidden_layers
from keras_ssl.layers.starting import must_start, starting
from keras_ssl.ops import decode_lines, dequantized, quantized, to_unit_range

PRIORS = ("normal", "logistic")
_MOST = 256  # images that the normalisation starts from, as the authors of Glow
_START_SEED = 0  # of the noise on them
_EDGE = 1e-6  # smallest probability of a logistic draw: |z| < 14


def with_noise(image_shape, image_size):
    """Views: the image, mirrored or not, and the noise u in "pixel_noise"."""
    shape = (*image_size, image_shape[2])
    noise = {"pixel_noise": {"distribution": "uniform", "shape": shape}}
    return views.WithNoise(views.plain(image_size), noise)


def code_lengths(model, images, noise):
    """The bound of -log P for one draw of the noise, float32 `(B,)` in nats."""
    z, log_det = model.flow(dequantized(images, noise))
    density = losses.standard_normal if model.prior == "normal" else losses.standard_logistic
    return density(z) - log_det + math.prod(model.image_shape) * math.log(256.0)


def log_prob(model, images, seed):
    """The lower bound of log P of 8-bit images with noise drawn from `seed`, `(B,)` in nats."""
    images = to_unit_range(images)
    noise = keras.random.uniform(ops.shape(images), seed=seed, dtype="float32")
    return -code_lengths(model, images, noise)


def draw(model, count, seed):
    """`count` draws of z from the prior, `(count, D)`."""
    shape = (count, math.prod(model.image_shape))
    if model.prior == "normal":
        return keras.random.normal(shape, seed=seed, dtype="float32")
    u = keras.random.uniform(shape, _EDGE, 1.0 - _EDGE, seed=seed, dtype="float32")
    return ops.log(u) - ops.log1p(-u)


def latents(model, images):
    """What z, `(B, D)`, images have, each pixel in the middle of its 8-bit value's bin."""
    return model.flow(dequantized(to_unit_range(images), 0.5))[0]


def lines(model, first, second, steps):
    """`steps` images on the line in z between each of `first` and its partner in `second`."""
    ends = [latents(model, images) for images in (first, second)]
    return decode_lines(model.decode, *ends, steps)


def decoded(model, z):
    """The 8-bit images, in [0, 1], of latents `(B, D)`."""
    return quantized(model.flow.inverse(ops.convert_to_tensor(z)))


def start_once(model, source):
    """Start the activation normalisation from the first images of `source`, once in a model's life.

    At most 256, in the order of their index, with the same noise always: so the start is the same
    under every strategy and on every backend.

    Raises:
        ValueError: if there is no source, and the model has had no start.
    """
    what = f"The activation normalisation of {type(model).__name__}"
    if not must_start(model.started, source, what):
        return
    images, _ = next(source.batches(model.image_shape[:2], _MOST))
    noise = np.random.default_rng(_START_SEED).random(images.shape).astype("float32")
    with starting():
        model.flow(dequantized(to_unit_range(images), noise))
    model.started.assign(1)


def moments(source, image_shape):
    """Mean and covariance of the images of `source` and their mirror images, as vectors.

    Args:
        source: a `keras_ssl.data.Source`.
        image_shape: (height, width, channels).

    Returns:
        Mean `(D,)` and covariance `(D, D)` of y = (k + u) / 256, the noise u included, float64.
    """
    size = math.prod(image_shape)
    total, products, count = np.zeros(size), np.zeros((size, size)), 0
    for images, _ in source.batches(image_shape[:2], _MOST):
        y = ops.convert_to_numpy(dequantized(to_unit_range(images), 0.5)).astype("float64")
        for part in (y, y[:, :, ::-1]):
            vectors = part.reshape(-1, size) - 0.5  # about the mean, for the difference below
            total += vectors.sum(axis=0)
            products += vectors.T @ vectors
            count += len(vectors)
    mean = total / count
    covariance = products / count - np.outer(mean, mean) + np.eye(size) / (12 * 256.0**2)
    return mean + 0.5, covariance


def encoder(image_shape, steps):
    """Images in [0, 1] -> what the last hidden layer of a coupling's network makes of them.

    Args:
        image_shape: (height, width, channels).
        steps: the layers of the flow from the first to the coupling, built; what follows is not
            needed.

    Returns:
        A functional model that shares the weights of the flow.
    """
    *before, coupling = steps
    pixels = keras.Input(image_shape, dtype="float32")
    # Pixels in the middle of their bins, as in `latents`: (255 x + 1/2) / 256.
    x = keras.layers.Rescaling(255.0 / 256.0, 0.5 / 256.0, dtype="float32")(pixels)
    for step in before:
        x, _ = step(x)
    seen = couplings.Seen(coupling.split, coupling.flip)(x)
    return keras.Model(pixels, hidden_layers(coupling.network)(seen))
