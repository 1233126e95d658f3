import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from toys import images, tiny_backbone

from keras_ssl import data, evaluation, losses
from keras_ssl.backbones import Backbone
from keras_ssl.methods.vae import VAE

LIKELIHOODS = ("bernoulli", "discretized_logistic", "gaussian")
DIMS = 8 * 8 * 3


def make(likelihood="discretized_logistic", **kwargs):
    return VAE(tiny_backbone(), latent_dim=6, likelihood=likelihood, **kwargs)


def batch_of(n=16, latent_dim=6, seed=0, shape=(8, 8, 3)):
    rng = np.random.default_rng(seed)
    return {
        "views": (images(n, shape, seed).astype("float32") / 255,),
        "latent_noise": rng.standard_normal((n, latent_dim)).astype("float32"),
        "pixel_noise": rng.random((n, *shape)).astype("float32"),
    }


def numbers(model, batch, training=False):
    return {name: float(v) for name, v in model.compute_losses(batch, training=training).items()}


# --- The objective


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_parts_in_nats_an_image(likelihood):
    """Both parts are sums over dimensions and means over images, made from the public networks."""
    model, batch = make(likelihood, beta=3.0), batch_of()
    x, eps = batch["views"][0], batch["latent_noise"]
    mean, log_variance = (np.array(t, "float64") for t in model.posterior(x))
    variance = np.exp(log_variance)
    kl = 0.5 * (mean**2 + variance - 1 - log_variance).sum(1).mean()
    maps = np.array(model.decoder((mean + np.sqrt(variance) * eps).astype("float32")), "float64")
    if likelihood == "bernoulli":
        p = 1 / (1 + np.exp(-maps))
        nll = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    elif likelihood == "gaussian":
        y, s = (np.round(255 * x) + batch["pixel_noise"]) / 256, math.exp(-1.5)
        nll = ((y - (maps + 1) / 2) / s) ** 2 / 2 + math.log(s * math.sqrt(2 * math.pi) * 256)
    else:
        m, s = maps[..., :3], np.exp(maps[..., 3:])
        grey = np.round(255 * x) * 2 / 255 - 1
        upper = np.where(x > 0.999, 1, 1 / (1 + np.exp(-(grey + 1 / 255 - m) / s)))
        lower = np.where(x < 0.001, 0, 1 / (1 + np.exp(-(grey - 1 / 255 - m) / s)))
        nll = -np.log(upper - lower)
    nll = nll.sum((1, 2, 3)).mean()
    got = numbers(model, batch)
    assert list(got) == list(model.loss_names)
    assert got["reconstruction"] == pytest.approx(nll, rel=1e-4)
    assert got["kl"] == pytest.approx(kl, rel=1e-4)
    assert got["loss"] == pytest.approx(nll + 3 * kl, rel=1e-4)


def gradients(model, loss_fn):
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = loss_fn()
    return tape.gradient(loss, variables, unconnected_gradients="zero")


def test_without_the_divergence_it_is_an_autoencoder_with_noise():
    model, batch = make(beta=0.0), batch_of()
    (x,) = batch["views"]

    def autoencoder():
        mean, log_variance = model.posterior(x)
        maps = model.decoder(mean + ops.exp(log_variance / 2) * batch["latent_noise"])
        return ops.mean(losses.discretized_logistic(x, maps[..., :3], maps[..., 3:]))

    ours = gradients(model, lambda: model.compute_losses(batch, training=False)["loss"])
    theirs = gradients(model, autoencoder)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max() + 1e-7)


def test_gradient_reaches_every_network():
    for likelihood in LIKELIHOODS:
        model = make(likelihood)
        grads = gradients(model, lambda m=model: m.compute_losses(batch_of(), True)["loss"])
        moved = [np.abs(g).max() > 0 for g in grads]
        assert all(moved), [v.path for v, m in zip(model.trainable_variables, moved) if not m]


def test_log_variance_is_limited_softly():
    model = make()
    last = model.posterior_head.layers[-1]
    last.bias.assign(np.concatenate([np.zeros(6), [-1e4, -0.5, 0, 0.5, 20, 1e4]]))
    last.kernel.assign(ops.zeros_like(last.kernel))
    _, log_variance = model.posterior(images(2))
    expected = [-10, -0.4996, 0, 0.4996, 10 * math.tanh(2), 10]
    np.testing.assert_allclose(log_variance[0], expected, atol=1e-4)


# --- The bound, where everything is known: probabilistic PCA


class LinearGaussian:
    """y = W z + mu + s e on 2 x 2 grey images, orthogonal columns in W, and the exact posterior."""

    def __init__(self):
        rng = np.random.default_rng(0)
        basis = np.linalg.qr(rng.standard_normal((4, 2)))[0]
        self.w = basis * np.array([0.25, 0.1])
        self.mu, self.s = np.full(4, 0.5), 0.05
        lengths = (self.w**2).sum(0)
        self.encode = self.w / (lengths + self.s**2)  # posterior mean = (y - mu) encode
        self.log_variance = np.log(self.s**2 / (lengths + self.s**2))

    def log_density(self, y):
        covariance = self.w @ self.w.T + self.s**2 * np.eye(4)
        d = y - self.mu
        quadratic = np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])

    def model(self, noise, mean_factor=1.0, log_variance_shift=(0.0, 0.0)):
        """The VAE that is this model; its encoder knows `noise`, that of the pixels."""
        pixels = keras.Input((2, 2, 1))
        backbone = Backbone(keras.Model(pixels, keras.layers.Flatten()(pixels)))
        features, z = keras.Input((4,)), keras.Input((2,))
        head = keras.Model(features, keras.layers.Dense(4)(features))
        maps = keras.layers.Reshape((2, 2, 1))(keras.layers.Dense(4)(z))
        decoder = keras.Model(z, maps)
        model = VAE(backbone, head, decoder, latent_dim=2, likelihood="gaussian")
        decoder.set_weights([2 * self.w.T, 2 * self.mu - 1])  # maps are on the scale from -1 to 1
        shift = noise / 256 - self.mu  # y = 255 / 256 x + u / 256
        encode = mean_factor * self.encode
        limited = 10 * np.arctanh((self.log_variance + np.array(log_variance_shift)) / 10)
        kernel = np.concatenate([encode * 255 / 256, np.zeros((4, 2))], axis=1)
        head.set_weights([kernel, np.concatenate([shift @ encode, limited])])
        model.log_scale.assign([math.log(self.s)])
        return model


def test_bound_is_tight_at_the_exact_posterior_and_loose_elsewhere():
    truth, rng, draws = LinearGaussian(), np.random.default_rng(1), 20_000
    noise = rng.random(4)
    grey = np.array([100.0, 140.0, 120.0, 160.0])
    exact = -truth.log_density((grey + noise)[None] / 256)[0] + 4 * math.log(256)
    batch = {
        "views": (np.broadcast_to(grey.reshape(2, 2, 1) / 255, (draws, 2, 2, 1)).astype("f4"),),
        "latent_noise": rng.standard_normal((draws, 2)).astype("f4"),
        "pixel_noise": np.broadcast_to(noise.reshape(2, 2, 1), (draws, 2, 2, 1)).astype("f4"),
    }
    best = numbers(truth.model(noise), batch)["loss"]
    assert best == pytest.approx(exact, abs=0.05)
    shifted = numbers(truth.model(noise, log_variance_shift=(1.0, -1.0)), batch)["loss"]
    biased = numbers(truth.model(noise, mean_factor=0.5), batch)["loss"]
    prior = numbers(
        truth.model(noise, mean_factor=0.0, log_variance_shift=-truth.log_variance), batch
    )["loss"]
    assert best + 0.3 < shifted < prior and best + 0.3 < biased < prior


# --- Estimates of the likelihood


def without_latents(model):
    """Decoder that ignores z, posterior that is the prior: p(x) is then known."""
    for network in (model.posterior_head, model.decoder):
        last = next(layer for layer in reversed(network.layers) if layer.weights)
        for weight in last.weights:
            weight.assign(ops.zeros_like(weight))
    return model


def test_log_prob_of_a_model_without_latents_is_exact():
    model, x = without_latents(make()), images(5)
    zeros = np.zeros((5, 8, 8, 3), "float32")
    expected = -np.array(losses.discretized_logistic(x.astype("f4") / 255, zeros, zeros))
    for samples in (1, 7):
        np.testing.assert_allclose(model.log_prob(x, samples), expected, rtol=1e-5)


def test_log_prob_with_one_draw_is_the_bound():
    """Decoder without z, posterior unlike the prior: likelihood minus divergence on average."""
    model, x = without_latents(make()), images(1)
    bias = np.array([0.3, -0.5, 0, 1.0, 0, 0, 0.2, -1.0, 0, 0.5, 0, 0], "float32")
    model.posterior_head.layers[-1].bias.assign(bias)
    kl = float(losses.kl_standard_normal(bias[None, :6], 10 * np.tanh(bias[None, 6:] / 10))[0])
    zeros = np.zeros((1, 8, 8, 3), "float32")
    exact = -float(losses.discretized_logistic(x.astype("f4") / 255, zeros, zeros)[0])
    repeated = np.repeat(x, 2000, axis=0)
    one = np.array(model.log_prob(repeated)) - exact
    assert one.mean() == pytest.approx(-kl, abs=5 * float(one.std()) / math.sqrt(2000))
    many = np.array(model.log_prob(repeated[:200], samples=60)) - exact
    assert many.mean() == pytest.approx(0, abs=0.1 * kl)


@pytest.mark.parametrize("likelihood", ["discretized_logistic", "gaussian"])
def test_more_draws_tighten_the_bound(likelihood):
    model, x = make(likelihood), images(32)
    means = [float(ops.mean(model.log_prob(x, samples, seed=3))) for samples in (1, 4, 32)]
    assert means[0] < means[1] < means[2]
    bound = -numbers(model, batch_of(512))["loss"]
    assert abs(means[0] / bound - 1) < 0.2


def test_bits_per_dim_of_a_uniform_guess():
    """A logistic as wide as the range, cut into 256 bins, is not far from uniform on noise."""
    model, x = without_latents(make()), images(64)
    bits, _ = evaluation.bits_per_dim(model.log_prob, x)
    nats = -float(ops.mean(model.log_prob(x)))
    assert bits == pytest.approx(float(nats) / (DIMS * math.log(2)), rel=1e-4)
    assert 8 < bits < 9.5


def test_log_prob_depends_on_the_seed_and_rounds_its_images():
    model, x = make(), images(4)
    first = np.array(model.log_prob(x, 2, seed=0))
    np.testing.assert_array_equal(first, model.log_prob(x, 2, seed=0))
    assert np.abs(first - np.array(model.log_prob(x, 2, seed=1))).max() > 1e-3


def test_bernoulli_has_no_likelihood_of_grey_values():
    with pytest.raises(ValueError, match="`log_prob`.*'bernoulli'.*'gaussian'"):
        make("bernoulli").log_prob(images(2))
    able = [name for name in LIKELIHOODS if make(name).can("log_prob")]
    assert able == ["discretized_logistic", "gaussian"]
    with pytest.raises(ValueError, match="`samples` must be >= 1. Received: samples=0"):
        make().log_prob(images(2), samples=0)


# --- Pictures, views, training


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_pictures_are_means_of_the_decoder(likelihood):
    model = without_latents(make(likelihood))
    output = next(layer for layer in reversed(model.decoder.layers) if layer.weights)
    bias = [-0.5, 0.0, 2.0, 0.0, 0.0, 0.0][: output.bias.shape[0]]
    output.bias.assign(bias)
    colour = [1 / (1 + math.exp(0.5)), 0.5, 1 / (1 + math.exp(-2))]
    colour = colour if likelihood == "bernoulli" else [0.25, 0.5, 1.0]
    for pictures in (model.reconstruct(images(3)), model.sample(3)):
        assert tuple(pictures.shape) == (3, 8, 8, 3)
        np.testing.assert_allclose(pictures, np.broadcast_to(colour, (3, 8, 8, 3)), atol=1e-6)


def test_samples_follow_their_seed():
    model = make()
    a, b, c = (np.array(model.sample(4, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-4


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_default_views_make_the_batch(likelihood):
    model, pixels = make(likelihood), images(16)
    batch = next(iter(data.stream(data.load(pixels), model.default_views((8, 8)), 16, seed=0)))
    assert set(model.batch_keys) <= set(batch)
    assert ("pixel_noise" in batch) == (likelihood == "gaussian")
    greys = np.sort(255 * batch["views"][0].numpy(), axis=None)
    np.testing.assert_allclose(greys, np.sort(pixels, axis=None), atol=1e-3)
    assert batch["latent_noise"].shape == (16, 6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_training_finds_what_images_share(likelihood):
    """Images of two colours: after training a code tells them apart and pictures show them."""
    colours = np.array([[40, 80, 200], [220, 150, 30]], "uint8")
    x = np.broadcast_to(colours[np.arange(64) % 2][:, None, None], (64, 8, 8, 3)).copy()
    model = make(likelihood)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(x, batch_size=16, epochs=25, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    error = np.abs(np.array(model.reconstruct(x[:2])) - x[:2] / 255).mean()
    assert error < 0.06
    mean, _ = model.posterior(x[:2])
    assert np.abs(np.array(mean[0] - mean[1])).max() > 1


def test_errors():
    with pytest.raises(ValueError, match="`likelihood` must be one of.*'laplace'"):
        make("laplace")
    with pytest.raises(ValueError, match="`beta` must be >= 0. Received: beta=-1"):
        make(beta=-1)
    with pytest.raises(ValueError, match="`latent_dim` must be >= 1"):
        VAE(tiny_backbone(), latent_dim=0)
    with pytest.raises(ValueError, match=r"`decoder` must give \(8, 8, 6\)"):
        make(decoder=make("gaussian").decoder)
    with pytest.raises(ValueError, match=r"`posterior_head` must give \(12,\)"):
        make(posterior_head=VAE(tiny_backbone(), latent_dim=5).posterior_head)
