"""VAE: a variational bound of the likelihood of images, by an encoder and a decoder.

Kingma and Welling 2013, https://arxiv.org/abs/1312.6114 (section 3 and appendix B); Rezende,
Mohamed, Wierstra 2014, https://arxiv.org/abs/1401.4082; beta: Higgins et al. 2017,
https://openreview.net/forum?id=Sy2fzU9gl. Departures from the authors' code: convolutional networks
and Adam (theirs: one hidden layer, Adagrad); log-variances are limited to (-10, 10).
"""

import math

import keras
import numpy as np
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones.flat import flat_dim, flat_features
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.decoders import conv_decoder
from keras_ssl.ops import decode_lines, dequantized, to_unit_range

_MAPS = {"bernoulli": 1, "gaussian": 1, "discretized_logistic": 2}  # of the decoder, a channel
_LOG_VARIANCE_LIMIT = 10.0
_LOWEST_LOG_SCALE = -6.0  # of the Gaussian, on pixels in [0, 1]
_FIRST_LOG_SCALE = -1.5  # about that of pixels around their mean


@keras.saving.register_keras_serializable("keras_ssl")
class VAE(SSLModel):
    """Encode an image as a distribution of latents from which a decoder predicts its pixels.

    With q(z|x) = N(m(x), diag v(x)), p(z) = N(0, I) and z = m + sqrt(v) eps, eps ~ N(0, I),

        L = mean_i ( -log p(x_i | z_i) + beta KL(q(z|x_i) || p(z)) ),

    in nats, summed over pixels and latent dimensions. At beta = 1, L bounds -log p(x) from above.
    With free bits the divergence is sum_d max(free_bits, mean_i KL_d(x_i)): dimensions that cost
    less are not pressed to cost nothing (Kingma et al. 2016, https://arxiv.org/abs/1606.04934,
    appendix C.8; the mean is over the global batch); what is logged as "kl" is the divergence.
    Likelihoods of a pixel, independent given z:

        "discretized_logistic"  P of the 8-bit value; mean and scale from the decoder
        "gaussian"              of y = (k + u) / 256 with k the 8-bit value and u ~ U[0, 1), one
                                learned scale a channel; log 256 is added for each dimension, so
                                that L bounds -log P of 8-bit values as well
        "bernoulli"             cross-entropy of x in [0, 1]; a likelihood for binary images only

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        posterior_head: `keras.Model` from the flattened feature map to m and log v, side by side;
            by default Dense 256, ReLU, Dense.
        decoder: `keras.Model` from z to maps of the images' size, one a channel (logits, or means
            on the scale from -1 for black to 1 for white), two for "discretized_logistic" (means of
            all channels, then log-scales on the same scale); by default
            `keras_ssl.layers.decoders.conv_decoder`.
        latent_dim: width of z.
        likelihood: one of the three above.
        beta: weight of the divergence, >= 0; 1 is the bound.
        free_bits: nats of divergence that each latent dimension has for nothing, >= 0.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        latent_noise: eps, `(batch, latent_dim)`.
        pixel_noise: u, `(batch, height, width, channels)`, for "gaussian" alone.

    Raises:
        ValueError: if an argument is outside its range, or a network has other shapes.
    """

    family = "generative"
    loss_names = ("loss", "reconstruction", "kl")
    likelihood_kind = "bound"

    def __init__(
        self,
        backbone,
        posterior_head: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        latent_dim: int = 128,
        likelihood: str = "discretized_logistic",
        beta: float = 1.0,
        free_bits: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check(latent_dim, likelihood, beta, free_bits)
        self.backbone = backbones.adopt(backbone)
        self.latent_dim, self.likelihood = latent_dim, likelihood
        self.beta, self.free_bits = beta, free_bits
        channels = self.image_shape[2]
        maps = channels * _MAPS[likelihood]
        self.posterior_head = posterior_head or heads.mlp(
            flat_dim(self.backbone),
            (256, 2 * latent_dim),
            hidden_norm=False,
            output_norm=None,
            use_bias=True,
            kernel_initializer="glorot_uniform",
            name="posterior_head",
        )
        self.decoder = decoder or _decoder(latent_dim, self.image_shape, maps)
        fix = "Change its last layer, or `latent_dim` and `likelihood`."
        heads.check_output("posterior_head", self.posterior_head, (2 * latent_dim,), fix)
        heads.check_output("decoder", self.decoder, (*self.image_shape[:2], maps), fix)
        self.log_scale = None
        if likelihood == "gaussian":
            first = keras.initializers.Constant(_FIRST_LOG_SCALE)
            self.log_scale = self.add_weight(shape=(channels,), initializer=first, name="log_scale")

    @property
    def batch_keys(self):
        """Images, noise of the latent, and where pixels are dequantised, noise of the pixels."""
        keys = ("views", "latent_noise")
        return (*keys, "pixel_noise") if self.likelihood == "gaussian" else keys

    def compute_losses(self, batch, training):
        """The bound of the global batch and its two parts, in nats an image."""
        (images,) = batch["views"]
        mean, log_variance = self._posterior(images, training)
        z = mean + ops.exp(0.5 * log_variance) * batch["latent_noise"]
        maps = self.decoder(z, training=training)
        nll = self._nll(images, maps, batch.get("pixel_noise"))
        nll, mean, log_variance = map(distribute.all_gather, (nll, mean, log_variance))
        nll, kl = ops.mean(nll), ops.mean(losses.kl_standard_normal(mean, log_variance))
        paid = kl
        if self.free_bits:  # of the mean over the global batch, dimension by dimension
            own = losses.kl_standard_normal(ops.transpose(mean), ops.transpose(log_variance))
            paid = ops.sum(ops.maximum(own / mean.shape[0], self.free_bits))
        return {"loss": nll + self.beta * paid, "reconstruction": nll, "kl": kl}

    def can(self, hook):
        """Bernoulli pixels make no likelihood of 8-bit images."""
        return super().can(hook) and (hook != "log_prob" or self.likelihood != "bernoulli")

    def posterior(self, images):
        """Mean and log-variance of q(z|x) in inference mode, each float32 `(B, latent_dim)`."""
        return self._posterior(to_unit_range(images), training=False)

    def reconstruct(self, images):
        """Mean of p(x|z) at the mean of q(z|x): float32 images in [0, 1]."""
        mean, _ = self.posterior(images)
        return self._mean_images(self.decoder(mean, training=False))

    def interpolate(self, first, second, steps):
        """Means of p(x|z) on the line between the means of q(z|x) of two images, both included."""
        ends = [self.posterior(images)[0] for images in (first, second)]
        decode = lambda z: self._mean_images(self.decoder(z, training=False))  # noqa: E731
        return decode_lines(decode, *ends, steps)

    def sample(self, count, seed=0):
        """Means of p(x|z) for `count` draws of z ~ N(0, I): float32 images in [0, 1]."""
        z = keras.random.normal((count, self.latent_dim), seed=seed)
        return self._mean_images(self.decoder(z, training=False))

    def log_prob(self, images, samples=1, seed=0):
        """Lower bound of log P of 8-bit images: an estimate from K = `samples` draws of z.

            log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),    z_k ~ q(z|x)

        In expectation it grows with K towards log P(x); K = 1 is the bound at beta = 1. Burda et
        al. 2015, https://arxiv.org/abs/1509.00519, equation 8.

        Args:
            images: `(B, height, width, channels)`, uint8 or float in [0, 1] (rounded to 8 bits).
            samples: K, >= 1.
            seed: of the draws.

        Returns:
            float32 `(B,)`, in nats.

        Raises:
            ValueError: for "bernoulli", which is no likelihood of 8-bit values, or if `samples` is
                not positive.
        """
        if not self.can("log_prob"):
            raise ValueError(
                "`log_prob` needs a likelihood of 8-bit values. Received: likelihood='bernoulli', "
                "which is one of black and white. Use 'discretized_logistic' or 'gaussian'."
            )
        if samples < 1:
            raise ValueError(f"`samples` must be >= 1. Received: samples={samples}.")
        images = to_unit_range(images)
        mean, log_variance = self._posterior(images, training=False)
        seeds = np.random.default_rng(seed).integers(2**31, size=(samples, 2)).tolist()
        weights = [self._log_weight(images, mean, log_variance, *pair) for pair in seeds]
        return ops.logsumexp(ops.stack(weights), axis=0) - math.log(samples)

    def default_views(self, image_size):
        """The image, mirrored or not, and the noise."""
        noise = {"latent_noise": {"distribution": "normal", "shape": (self.latent_dim,)}}
        if self.likelihood == "gaussian":
            shape = (*image_size, self.image_shape[2])
            noise["pixel_noise"] = {"distribution": "uniform", "shape": shape}
        return views.WithNoise(views.plain(image_size), noise)

    def paper_optimizer(self, total_steps, batch_size):
        """Adam at 1e-3, falling along a cosine to zero; at any batch size."""
        return keras.optimizers.Adam(optimizers.WarmupCosine(1e-3, total_steps))

    def _posterior(self, images, training):
        features = flat_features(self.backbone, images, training)
        statistics = ops.cast(self.posterior_head(features, training=training), "float32")
        mean, log_variance = ops.split(statistics, 2, axis=-1)
        # A smooth limit: exp() of a wild first output would overflow, and clipping has no gradient.
        limit = _LOG_VARIANCE_LIMIT
        return mean, limit * ops.tanh(log_variance / limit)

    def _nll(self, images, maps, pixel_noise):
        """-log p(x|z), `(B,)`; of 8-bit values for the Gaussian too."""
        if self.likelihood == "bernoulli":
            return losses.bernoulli(images, maps)
        if self.likelihood == "discretized_logistic":
            return losses.discretized_logistic(images, *ops.split(maps, 2, axis=-1))
        # Uniform dequantisation: the density of y bounds the probability of the 8-bit value k.
        pixels = dequantized(images, pixel_noise)
        log_scale = ops.maximum(self.log_scale, _LOWEST_LOG_SCALE)
        nats = losses.gaussian(pixels, (maps + 1.0) / 2.0, log_scale)
        return nats + math.prod(self.image_shape) * math.log(256.0)

    def _mean_images(self, maps):
        if self.likelihood == "bernoulli":
            return ops.sigmoid(ops.cast(maps, "float32"))
        if self.likelihood == "discretized_logistic":
            maps = ops.split(maps, 2, axis=-1)[0]
        return ops.clip((ops.cast(maps, "float32") + 1.0) / 2.0, 0.0, 1.0)

    def _log_weight(self, images, mean, log_variance, latent_seed, pixel_seed):
        """Log of p(x, z) / q(z|x) at one draw, `(B,)`."""
        eps = keras.random.normal(ops.shape(mean), seed=latent_seed)
        z = mean + ops.exp(0.5 * log_variance) * eps
        u = keras.random.uniform(ops.shape(images), seed=pixel_seed)
        nll = self._nll(images, self.decoder(z, training=False), u)
        return 0.5 * ops.sum(ops.square(eps) + log_variance - ops.square(z), axis=-1) - nll


def _decoder(latent_dim, image_shape, maps):
    """The default decoder; scales of a logistic start about as wide as pixels vary."""
    decoder = conv_decoder(latent_dim, image_shape, maps)
    scales = maps - image_shape[2]
    if scales:
        bias = [0.0] * image_shape[2] + [_FIRST_LOG_SCALE] * scales
        decoder.get_layer("decoder_output").bias.assign(bias)
    return decoder


def _check(latent_dim, likelihood, beta, free_bits):
    if latent_dim < 1:
        raise ValueError(f"`latent_dim` must be >= 1. Received: latent_dim={latent_dim}.")
    if likelihood not in _MAPS:
        raise ValueError(
            f"`likelihood` must be one of {sorted(_MAPS)}. Received: likelihood={likelihood!r}."
        )
    if not beta >= 0:
        raise ValueError(f"`beta` must be >= 0. Received: beta={beta}. The bound has 1.")
    if not free_bits >= 0:
        raise ValueError(f"`free_bits` must be >= 0. Received: free_bits={free_bits}.")
