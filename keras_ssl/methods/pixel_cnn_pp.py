"""PixelCNN++: predict each pixel from all pixels before it, as a mixture of discretised logistics.

Salimans, Karpathy, Chen, Kingma 2017, https://arxiv.org/abs/1701.05517. Departures from the
authors' code (https://github.com/openai/pixel-cnn): by default a network for two cores and no
dropout; weight normalisation starts without dropout, on 128 images; the average of the weights
follows them faster in the first steps; shifts move the input of the first layers, not their
output; drawn values are rounded to 8 bits before they are fed back.
"""

import keras
from keras import ops

from keras_ssl import distribute, losses, optimizers, views
from keras_ssl.backbones import Backbone
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema
from keras_ssl.layers.dropout import dropout_noise
from keras_ssl.layers.pixel_unet import RowByRow, middle, pixel_unet
from keras_ssl.layers.starting import must_start, start_flag, starting
from keras_ssl.losses.likelihood import mixture_means, mixture_parameters
from keras_ssl.methods import raster
from keras_ssl.ops import draws, to_unit_range

_STARTED_ON = 128  # images
_LEAST = 1e-6  # distance of uniform noise from 0 and 1


@keras.saving.register_keras_serializable("keras_ssl")
class PixelCNNPP(SSLModel):
    """Factorise p(x) over pixels; the colours of a pixel share a mixture of logistics.

        L = mean_i sum_{pixels j} -log P(x_ij | x_i1, ..., x_i,j-1),
        P(x_j | ...) = sum_k w_k prod_c P(x_jc; m_jck(colours before c), s_jck),

    in nats an image (`losses.discretized_logistic_mixture`); the likelihood of 8-bit images is
    exact. The network is a U-net of gated residual blocks at several resolutions with two streams,
    one for the rows above and one for the row itself (`layers.pixel_unet`); weights are normalised,
    and start by the data: before the first epoch one pass over up to 128 images sets gains and
    biases. `log_prob`, `sample`, `complete` and `encode` go by a moving average of the weights,
    the logged losses by the weights themselves.

    `encode` gives the mean over places of both streams in the middle, at the lowest resolution (8x8
    of 32x32): what the network knows of the image at large, before it is turned into single pixels
    again.

    Args:
        input_shape: (height, width, channels) of the images; sides are multiples of 2^(levels - 1),
            with 1 or 3 channels.
        width: channels of each stream; 160 in the paper.
        blocks: gated residual blocks at each resolution; 5 in the paper.
        levels: number of resolutions, each half the one before; 3 in the paper.
        components: logistics in the mixture; 10 in the paper.
        dropout: rate within the blocks, in [0, 1); 0.5 in the paper, for long runs on small data.
        decay: share of the average that is kept in a step, in [0, 1); at step t at most (1 + t) /
            (10 + t).
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        dropout_noise: a uniform number an image, `(batch,)`, where there is dropout.

    Raises:
        ValueError: if an argument is outside its range.
    """

    family = "generative"
    likelihood_kind = "exact"
    image_side = 32
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-3)

    def __init__(
        self,
        input_shape,
        width: int = 16,
        blocks: int = 1,
        levels: int = 3,
        components: int = 5,
        dropout: float = 0.0,
        decay: float = 0.9995,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        self.width, self.blocks, self.levels = width, blocks, levels
        self.components = components
        self.dropout, self.decay = dropout, decay
        _check(self.input_shape, width, blocks, levels, components, dropout, decay)
        numbers = components * (10 if self.input_shape[2] == 3 else 3)
        self.network = pixel_unet(self.input_shape, width, blocks, levels, numbers, dropout)
        self.average = ema.make_teacher(self.network)
        self.started = start_flag(self)
        both = keras.Model(self.average.input, middle(self.average, blocks, levels))
        self.backbone = Backbone(both, name=f"{self.name}_features")

    @property
    def batch_keys(self):
        """Images, and where there is dropout, a number for each."""
        return ("views", "dropout_noise") if self.dropout else ("views",)

    def begin_epoch(self, source):
        """Let weight normalisation start by the first images of `source`, once in a model's life.

        Raises:
            ValueError: if it has not started and there are no images.
        """
        if must_start(self.started, source, "The weight normalisation of PixelCNNPP"):
            images, _ = next(source.batches(self.image_shape[:2], _STARTED_ON))
            self.start(images)

    def start(self, images):
        """Set gains and biases by images, so that outputs of each layer have mean 0 and its scale.

        Args:
            images: `(n, height, width, channels)`, uint8 or float in [0, 1].
        """
        with starting():
            self.network(to_unit_range(images), training=False)
        self.average.set_weights(self.network.get_weights())
        self.started.assign(1)

    def compute_losses(self, batch, training):
        """Negative log-likelihood of the global batch under the weights, in nats an image."""
        (images,) = batch["views"]
        with dropout_noise(batch.get("dropout_noise")):
            parameters = self.network(images, training=training)
        return {"loss": ops.mean(distribute.all_gather(_nll(images, parameters)))}

    def after_step(self):
        """Move the average towards the weights."""
        step = ops.cast(self.step, "float32")
        decay = ops.minimum(self.decay, (1.0 + step) / (10.0 + step))
        ema.update(self.average, self.network, decay)

    def log_prob(self, images, seed=0):
        """Log P of 8-bit images in nats, float32 `(batch,)`; exact, `seed` is not used."""
        images = to_unit_range(images)
        return -_nll(images, self.average(images, training=False))

    def sample(self, count, seed=0, cached=True):
        """`count` images drawn pixel by pixel; a function of `seed`.

        Args:
            count: number of images.
            seed: of the noise, for a pixel one uniform number and one a colour.
            cached: whether a pixel goes on from what those before it have left. If not, each costs
                a forward pass over the image; the images are the same (in half precision, up to
                rounding).

        Returns:
            float32 in [0, 1], multiples of 1 / 255.
        """
        return raster.draw(self, raster.blank(self, count), 0, seed, cached)

    def complete(self, images, rows, seed=0, cached=True):
        """Images whose first `rows` rows are those of `images`, the others drawn; as `sample`."""
        return raster.draw(self, images, rows, seed, cached)

    def default_views(self, image_size):
        """The image, mirrored or not, and the noise of dropout."""
        plain = views.plain(image_size)
        if not self.dropout:
            return plain
        return views.WithNoise(plain, {"dropout_noise": {"distribution": "uniform", "shape": ()}})

    def paper_optimizer(self, total_steps, batch_size):
        """Adam with betas 0.95 and 0.9995, from 1e-3 down by a factor of 0.999995 a step."""
        rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.999995)
        return keras.optimizers.Adam(rate, beta_1=0.95, beta_2=0.9995)

    # === Drawing, as `methods.raster` asks for it ===

    @property
    def noise_a_pixel(self):
        """A number for the component, and one a colour."""
        return 1 + self.input_shape[2]

    @property
    def rows_a_step(self):
        """Rows of the image to one row of the lowest resolution."""
        return 2 ** (self.levels - 1)

    def start_rows(self, count):
        """What the streams know above the image."""
        return self._stepper().start(count)

    def draw_rows(self, state, known, keep, noise):
        """The next `rows_a_step` rows, `(B, rows, W, C)`, and `state` after them.

        Args:
            state: as `start_rows` begins it.
            known: the rows `(B, rows, W, C)` in [0, 1], where they are given.
            keep: bool `(rows,)`, which are.
            noise: `(B, rows, W, 1 + C)`, uniform in [0, 1).
        """
        kept = ops.cast(keep, known.dtype)[None, :, None, None]
        # What a pixel's draw needs, side by side: noise, whether it is given, and its colours.
        given = ops.concatenate([noise, ops.broadcast_to(kept, (*known.shape[:3], 1)), known], -1)
        return self._stepper().rows(state, given, self._draw)

    def draw_pixel(self, images, row, column, noise):
        """Images with the pixel at (row, column) drawn, by a forward pass."""
        parameters = raster.at_pixel(self.average(images), row, column)
        return raster.with_pixel(images, row, column, _value(parameters, noise))

    def _stepper(self):
        return RowByRow(self.average, self.blocks, self.levels)

    def _draw(self, parameters, given):
        """A pixel `(B, C)` in [0, 1]."""
        numbers = self.noise_a_pixel
        noise, keep, known = ops.split(given, (numbers, numbers + 1), axis=-1)
        return ops.where(keep > 0, known, _value(parameters, noise))


def _nll(images, parameters):
    """-log P, `(B,)`."""
    return ops.sum(losses.discretized_logistic_mixture(images, parameters), axis=(1, 2))


def _value(parameters, noise):
    """A pixel `(B, C)` of values in [0, 1], multiples of 1 / 255, by noise `(B, 1 + C)`."""
    channels = noise.shape[-1] - 1
    logits, means, log_scales, coefficients = mixture_parameters(parameters, channels)
    component = draws.categorical(logits, noise[:, 0])
    one = ops.one_hot(component, logits.shape[-1], dtype="float32")[:, None]
    pick = lambda x: x if x is None else ops.sum(x * one, axis=-1, keepdims=True)  # noqa: E731
    means, log_scales, coefficients = map(pick, (means, log_scales, coefficients))
    u = ops.clip(noise[:, 1:], _LEAST, 1.0 - _LEAST)
    deviation = ops.exp(ops.maximum(log_scales[..., 0], -7.0)) * (ops.log(u) - ops.log1p(-u))
    pixel = ops.zeros_like(deviation)
    for c in range(channels):  # each colour's mean depends on those before it
        value = mixture_means(pixel, means, coefficients)[:, c, 0] + deviation[:, c]
        value = ops.round(127.5 * (ops.clip(value, -1.0, 1.0) + 1.0)) / 127.5 - 1.0
        pixel = ops.concatenate([pixel[:, :c], value[:, None], pixel[:, c + 1 :]], axis=-1)
    return ops.round(127.5 * (pixel + 1.0)) / 255.0


def _check(shape, width, blocks, levels, components, dropout, decay):
    numbers = {"width": width, "blocks": blocks, "levels": levels, "components": components}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}.")
    for name, value in (("dropout", dropout), ("decay", decay)):
        if not 0 <= value < 1:
            raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value}.")
    factor = 2 ** (levels - 1)
    if shape[0] % factor or shape[1] % factor or shape[2] not in (1, 3):
        raise ValueError(
            f"`input_shape` must have sides that are multiples of {factor}, as levels={levels} "
            f"halves them {levels - 1} times, and 1 or 3 channels. Received: input_shape={shape}. "
            "Resize the images, or change `levels`."
        )
