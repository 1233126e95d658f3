"""Denoising autoencoder: give back the clean image from a corrupted one.

Vincent, Larochelle, Bengio, Manzagol 2008, https://doi.org/10.1145/1390156.1390294; Vincent,
Larochelle, Lajoie, Bengio, Manzagol 2010, https://jmlr.org/papers/v11/vincent10a.html (kinds of
corruption and emphasis, section 4). Departures from the papers: convolutional networks, trained as
a whole (theirs: fully connected layers, one after the other).
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
_LEVELS = {"masking": 0.25, "gaussian": 0.3, "salt_and_pepper": 0.25}  # by kind of corruption
_UNITS = ("pixel", "element")


@keras.saving.register_keras_serializable("keras_ssl")
class DenoisingAutoencoder(SSLModel):
    """Reconstruct images of which parts are missing or wrong.

    Of an image x with values in [0, 1] the network sees x~; r = decoder(bottleneck(features(x~))):

        "masking":          x~_d = 0 for a share `level` of the units, else x_d;
        "gaussian":         x~ = x + level * eps, eps ~ N(0, I), not clipped;
        "salt_and_pepper":  a share `level` of the units is 0 or 1, each as often, else x_d,

    a unit being a pixel with all its channels, or each channel of it ("element"). With C the
    corrupted places and (a, b) the `emphasis`,

        L = mean_i ( a sum_{d in C} l(x_id, r_id) + b sum_{d not in C} l(x_id, r_id) ),

    l being the squared difference or the cross-entropy of x in [0, 1] with logits r. For small
    Gaussian noise (r(x~) - x~) / level^2 estimates the gradient of log p(x~) (Alain and Bengio
    2014, https://arxiv.org/abs/1211.4246). `encode` gives the pooled features of the backbone,
    `embed` the code, both of images as they are.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        bottleneck: `keras.Model` from the flattened feature map to the code; by default one Dense
            layer.
        decoder: `keras.Model` from the code to images, or to logits ("cross_entropy"); by default
            `keras_ssl.layers.decoders.conv_decoder`.
        latent_dim: width of the code.
        corruption: "masking", "gaussian" or "salt_and_pepper".
        level: share of the units, in [0, 1], or the standard deviation of the noise, >= 0; None for
            0.25, or 0.3 ("gaussian").
        unit: "pixel" or "element"; not for "gaussian".
        emphasis: (a, b), >= 0; (1, 0) is full emphasis on what was corrupted.
        error: "squared" or "cross_entropy".
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        corruption_noise: `(batch, height, width, channels)`, or one channel where a unit is a
            pixel; uniform in [0, 1), or standard normal ("gaussian").

    Raises:
        ValueError: if an argument is outside its range, or a network has other shapes.
    """

    family = "generative"
    batch_keys = ("views", "corruption_noise")

    def __init__(
        self,
        backbone,
        bottleneck: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        latent_dim: int = 128,
        corruption: str = "masking",
        level: float | None = None,
        unit: str = "pixel",
        emphasis: tuple[float, float] = (1.0, 1.0),
        error: str = "squared",
        **kwargs,
    ):
        super().__init__(**kwargs)
        level = _LEVELS.get(corruption) if level is None else level
        _check(latent_dim, corruption, level, unit, emphasis, error)
        self.backbone = backbones.adopt(backbone)
        self.latent_dim, self.corruption, self.level = latent_dim, corruption, level
        self.unit, self.emphasis, self.error = unit, tuple(emphasis), error
        self.bottleneck = bottleneck or heads.plain_mlp(flat_dim(self.backbone), (latent_dim,))
        self.decoder = decoder or conv_decoder(latent_dim, self.image_shape)
        fix = "Change its last layer, or `latent_dim`."
        heads.check_output("bottleneck", self.bottleneck, (latent_dim,), fix)
        heads.check_output("decoder", self.decoder, self.image_shape, fix)

    def compute_losses(self, batch, training):
        """The error of the global batch against the clean images."""
        (images,) = batch["views"]
        seen, corrupted = self.corrupt(images, batch["corruption_noise"])
        maps = self.decoder(self._code(seen, training), training=training)
        wrong, right = self.emphasis
        weights = right + (wrong - right) * corrupted
        measure = losses.bernoulli if self.error == "cross_entropy" else losses.squared_error
        return {"loss": ops.mean(distribute.all_gather(measure(images, maps, weights)))}

    def corrupt(self, images, noise):
        """Corrupted images, and where they are: 1 or 0 for each place, or for each pixel.

        Args:
            images: `(B, height, width, channels)`, float in [0, 1].
            noise: as the batch has it.
        """
        if self.corruption == "gaussian":
            return images + self.level * noise, ops.ones_like(noise)
        changed = noise < self.level
        if self.corruption == "masking":
            value = ops.zeros_like(noise)
        else:
            value = ops.cast(noise < 0.5 * self.level, "float32")
        return ops.where(changed, value, images), ops.cast(changed, "float32")

    def embed(self, images):
        """The code in inference mode, float32 `(batch, latent_dim)`."""
        return self._code(to_unit_range(images), False)

    def reconstruct(self, images):
        """What the network makes of images as they are given, corrupted or not; in [0, 1]."""
        return self._decoded(self.embed(images))

    def interpolate(self, first, second, steps):
        """Images of codes on the line between those of two images, both included."""
        return decode_lines(self._decoded, self.embed(first), self.embed(second), steps)

    def default_views(self, image_size):
        """The image, mirrored or not, and the noise."""
        normal = self.corruption == "gaussian"
        channels = 1 if self.unit == "pixel" and not normal else self.image_shape[2]
        noise = {
            "distribution": "normal" if normal else "uniform",
            "shape": (*image_size, channels),
        }
        return views.WithNoise(views.plain(image_size), {"corruption_noise": noise})

    def paper_optimizer(self, total_steps, batch_size):
        """Adam at 1e-3, falling along a cosine to zero; at any batch size."""
        return keras.optimizers.Adam(optimizers.WarmupCosine(1e-3, total_steps))

    def _code(self, images, training):
        features = flat_features(self.backbone, images, training)
        return ops.cast(self.bottleneck(features, training=training), "float32")

    def _decoded(self, z):
        maps = ops.cast(self.decoder(z, training=False), "float32")
        return ops.sigmoid(maps) if self.error == "cross_entropy" else ops.clip(maps, 0.0, 1.0)


def _check(latent_dim, corruption, level, unit, emphasis, error):
    if latent_dim < 1:
        raise ValueError(f"`latent_dim` must be >= 1. Received: latent_dim={latent_dim}.")
    for name, value, known in (
        ("corruption", corruption, tuple(_LEVELS)),
        ("unit", unit, _UNITS),
        ("error", error, ERRORS),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}.")
    most = float("inf") if corruption == "gaussian" else 1.0
    if not 0 <= level <= most:
        raise ValueError(
            "`level` must be a share in [0, 1], or a standard deviation >= 0 ('gaussian'). "
            f"Received: level={level} with corruption={corruption!r}."
        )
    if len(emphasis) != 2 or not min(emphasis) >= 0:
        raise ValueError(f"`emphasis` must be two numbers >= 0. Received: emphasis={emphasis}.")
    if corruption == "gaussian" and (emphasis[0] != emphasis[1] or unit != "pixel"):
        raise ValueError(
            "`emphasis` and `unit` are for corruptions that leave some places as they are. "
            f"Received: emphasis={emphasis}, unit={unit!r} with corruption='gaussian'."
        )
