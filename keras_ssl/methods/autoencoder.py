"""Autoencoder: give an image back from a few numbers.

Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647. Departures from the authors'
code: convolutional networks, trained as a whole (theirs: fully connected ones that start as a stack
of restricted Boltzmann machines).
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones.flat import flat_dim, flat_features
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.decoders import conv_decoder
from keras_ssl.ops import decode_lines, to_unit_range

ERRORS = ("squared", "cross_entropy")


@keras.saving.register_keras_serializable("keras_ssl")
class Autoencoder(SSLModel):
    """Encode an image as a code from which a decoder reconstructs it.

    With z = bottleneck(flattened feature map of x) and r = decoder(z), summed over the D pixels and
    channels of an image,

        "squared":        L = mean_i sum_d (x_id - r_id)^2,
        "cross_entropy":  L = mean_i sum_d -x_id log sigmoid(r_id) - (1 - x_id) log sigmoid(-r_id),

    for x in [0, 1]. A linear network of one layer finds the principal components at best: the first
    is then the sum of the eigenvalues that are left out. `encode` gives the pooled features of the
    backbone, `embed` the code.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        bottleneck: `keras.Model` from the flattened feature map to z; by default one Dense layer.
        decoder: `keras.Model` from z to images, or to logits ("cross_entropy"); by default
            `keras_ssl.layers.decoders.conv_decoder`.
        latent_dim: width of z.
        error: "squared" or "cross_entropy".
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if an argument is outside its range, or a network has other shapes.
    """

    family = "generative"

    def __init__(
        self,
        backbone,
        bottleneck: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        latent_dim: int = 128,
        error: str = "squared",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if error not in ERRORS:
            raise ValueError(f"`error` must be one of {ERRORS}. Received: error={error!r}.")
        if latent_dim < 1:
            raise ValueError(f"`latent_dim` must be >= 1. Received: latent_dim={latent_dim}.")
        self.backbone = backbones.adopt(backbone)
        self.latent_dim, self.error = latent_dim, error
        self.bottleneck = bottleneck or heads.plain_mlp(flat_dim(self.backbone), (latent_dim,))
        self.decoder = decoder or conv_decoder(latent_dim, self.image_shape)
        fix = "Change its last layer, or `latent_dim`."
        heads.check_output("bottleneck", self.bottleneck, (latent_dim,), fix)
        heads.check_output("decoder", self.decoder, self.image_shape, fix)

    def compute_losses(self, batch, training):
        """The error of the global batch, a sum over the dimensions of an image."""
        (images,) = batch["views"]
        maps = self.decoder(self._code(images, training), training=training)
        measure = losses.bernoulli if self.error == "cross_entropy" else losses.squared_error
        return {"loss": ops.mean(distribute.all_gather(measure(images, maps)))}

    def embed(self, images):
        """The code z in inference mode, float32 `(batch, latent_dim)`."""
        return self._code(to_unit_range(images), False)

    def reconstruct(self, images):
        """Reconstructions, float32 in [0, 1]."""
        return self._decoded(self.embed(images))

    def interpolate(self, first, second, steps):
        """Images of codes on the line between those of two images, both included."""
        return decode_lines(self._decoded, self.embed(first), self.embed(second), steps)

    def default_views(self, image_size):
        """The image, mirrored or not."""
        return views.plain(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """Adam at 1e-3, falling along a cosine to zero; at any batch size."""
        return keras.optimizers.Adam(optimizers.WarmupCosine(1e-3, total_steps))

    def _code(self, images, training):
        features = flat_features(self.backbone, images, training)
        return ops.cast(self.bottleneck(features, training=training), "float32")

    def _decoded(self, z):
        maps = ops.cast(self.decoder(z, training=False), "float32")
        return ops.sigmoid(maps) if self.error == "cross_entropy" else ops.clip(maps, 0.0, 1.0)
