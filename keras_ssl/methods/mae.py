"""MAE: give back the pixels of most of an image, which a transformer never saw, from the rest.

He, Chen, Xie, Li, Dollar, Girshick 2021, https://arxiv.org/abs/2111.06377 (section 3, appendix
A.1). Departures from the authors' code: below 64 px the decoder has 2 blocks of width 96 (theirs:
8 of 512), for short runs on two cores.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.backbones.parts import token_parts
from keras_ssl.backbones.vit import block
from keras_ssl.engine import SSLModel
from keras_ssl.layers.mask_tokens import MaskTokens
from keras_ssl.ops import is_small, masking, to_unit_range

_EPSILON = 1e-6  # added to the variance of a patch
_MASK_SEED = 0  # of the patches that `reconstruct` hides


@keras.saving.register_keras_serializable("keras_ssl")
class MAE(SSLModel):
    """Encode a few patches of an image, and decode all others from them.

    Of L patches x_l, numbers u_l in [0, 1) that come with the batch decide which are hidden: the
    share `mask_rate` with the largest. The transformer encodes class token and visible patches
    alone; a small one, the decoder, gets them back at their places, with a learned token at all
    others, and predicts pixels y_l:

        L = mean_i mean_{l hidden} mean_p (y_ilp - t_ilp)^2,

    with t the pixels of a patch, or by default those minus their mean and divided by their standard
    deviation (unbiased, section 3). An untrained decoder, which predicts next to nothing, costs
    about 1 then.

    `encode` gives the backbone's features of whole images; the decoder is discarded.
    `reconstruct` hides the same patches of every image and gives these back, visible ones as they
    are, in the hidden ones' own mean and standard deviation where targets are normalised.

    Args:
        backbone: a vision transformer of `keras_ssl.backbones`; the authors' has fixed positions
            and Xavier's start: `vit_base(positions="sincos", initializer="glorot_uniform")`.
        decoder: `keras.Model` from (tokens `(B, 1 + visible, D)` of the backbone, order `(B, L)`)
            to pixels `(B, L, patch^2 C)`; by default `mae_decoder` with 8 blocks of width 512 and
            16 heads, below 64 px 2 of width 96 and 3 heads.
        mask_rate: share of the patches that are hidden, in (0, 1); one is visible at least.
        normalize_pixels: whether targets are normalised patch by patch.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        mask_noise: u, uniform in [0, 1), `(batch, L)`.

    Raises:
        ValueError: if `mask_rate` is outside its range, the backbone is no such transformer, or the
            decoder has another shape.
    """

    family = "masked"
    needs_tokens = True
    batch_keys = ("views", "mask_noise")
    short_run = optimizers.ShortRun(
        below=10_000, learning_rate=1e-3, weight_decay=(0.05, 0.05), batch_size=32
    )

    def __init__(
        self,
        backbone,
        decoder: keras.Layer | None = None,
        mask_rate: float = 0.75,
        normalize_pixels: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.mask_rate, self.normalize_pixels = mask_rate, normalize_pixels
        if not 0 < mask_rate < 1:
            raise ValueError(f"`mask_rate` must be in (0, 1). Received: mask_rate={mask_rate}.")
        self._parts = token_parts(self.backbone)
        self.length = math.prod(self._parts.grid)
        self.visible = max(1, int(self.length * (1 - mask_rate)))
        self.patch_size = self.image_shape[0] // self._parts.grid[0]
        pixels = self.patch_size**2 * self.image_shape[2]
        if decoder is None:
            size = (96, 2, 3) if is_small(self.image_shape) else (512, 8, 16)
            own = (self._parts.grid, self._parts.width, self.visible, pixels)
            decoder = mae_decoder(*own, *size, prefix=self._parts.prefix)
        self.decoder = decoder
        if tuple(self.decoder.output_shape[1:]) != (self.length, pixels):
            raise ValueError(
                f"`decoder` must give ({self.length}, {pixels}) an image: the pixels of each "
                f"patch. Received: a model that gives {tuple(self.decoder.output_shape[1:])}."
            )

    def compute_losses(self, batch, training):
        """Squared error of the hidden patches, the mean over the global batch."""
        (images,) = batch["views"]
        order = masking.random_order(batch["mask_noise"])
        predicted = self._predict(images, order, training)
        targets = masking.patchify(ops.cast(images, "float32"), self.patch_size)
        if self.normalize_pixels:
            mean, deviation = _moments(targets)
            targets = (targets - mean) / deviation
        errors = ops.mean(ops.square(predicted - targets), axis=-1)  # (B, L)
        hidden = masking.hidden_places(order, self.visible)
        errors = ops.sum(errors * hidden, axis=-1) / (self.length - self.visible)
        return {"loss": ops.mean(distribute.all_gather(errors))}

    def reconstruct(self, images):
        """Images with the hidden patches as they are decoded, float32 in [0, 1]."""
        images = to_unit_range(images)
        order = self._shown_order(images)
        predicted = self._predict(images, order, training=False)
        patches = masking.patchify(images, self.patch_size)
        if self.normalize_pixels:
            mean, deviation = _moments(patches)
            predicted = predicted * deviation + mean
        return self._filled(patches, order, ops.clip(predicted, 0.0, 1.0))

    def mask(self, images):
        """Images with the patches that `reconstruct` hides in grey."""
        images = to_unit_range(images)
        patches = masking.patchify(images, self.patch_size)
        return self._filled(patches, self._shown_order(images), 0.5)

    def default_views(self, image_size):
        """A crop of 20-100 % of the area, bicubic, mirrored or not; and the noise."""
        grid = [side // self.patch_size for side in image_size]
        noise = {"distribution": "uniform", "shape": (math.prod(grid),)}
        return views.WithNoise(views.mae(image_size), {"mask_noise": noise})

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW (0.9, 0.95), 1.5e-4 * batch / 256 after 40 epochs of warm-up, cosine to zero.

        The warm-up takes a tenth of the run at most; weight decay 0.05, not on biases and gains.
        """
        warmup = self.warmup_steps(total_steps, epochs=40)
        schedule = optimizers.WarmupCosine(1.5e-4 * batch_size / 256, total_steps, warmup)
        return optimizers.AdamW(schedule, weight_decay=0.05, beta_2=0.95, epsilon=1e-8)

    def _shown_order(self, images):
        """The order of the patches in pictures, the same for each image."""
        noise = keras.random.uniform((1, self.length), seed=_MASK_SEED, dtype="float32")
        return masking.random_order(ops.broadcast_to(noise, (ops.shape(images)[0], self.length)))

    def _filled(self, patches, order, values):
        """Images whose hidden patches have other values."""
        hidden = masking.hidden_places(order, self.visible)[:, :, None]
        patches = hidden * values + (1 - hidden) * patches
        return masking.unpatchify(patches, self._parts.grid, self.patch_size)

    def _predict(self, images, order, training):
        """Pixels of each patch, float32 `(B, L, patch^2 C)`."""
        tokens = self._parts.positions(self._parts.patches(images))
        prefix = self._parts.prefix
        patches = masking.first_places(tokens[:, prefix:], order, self.visible)
        seen = ops.concatenate([tokens[:, :prefix], patches], axis=1)
        encoded = self._parts.blocks(seen, training=training)
        return ops.cast(self.decoder([encoded, order], training=training), "float32")


def mae_decoder(grid, width, visible, pixels, decoder_width, depth, heads, prefix=1):
    """The decoder of MAE, (tokens `(B, 1 + visible, width)`, order `(B, L)`) -> `(B, L, pixels)`.

    Args:
        grid: (h, w) of the patches, L = h w.
        width: of the encoder's tokens.
        visible: number of patches among them.
        pixels: numbers of a patch.
        decoder_width: of its own tokens.
        depth: number of blocks.
        heads: of their attention.
        prefix: number of tokens before the patches; more than the class token with registers.
    """
    length = math.prod(grid)
    tokens = keras.Input((prefix + visible, width), name="tokens")
    order = keras.Input((length,), dtype="int32", name="order")
    start = {"kernel_initializer": "glorot_uniform"}
    x = keras.layers.Dense(decoder_width, name="embedding", **start)(tokens)
    first = x[:, :prefix]
    x = MaskTokens(grid, name="mask_tokens")(x[:, prefix:], order)
    x = keras.layers.Concatenate(axis=1, name="sequence")([first, x])
    for i in range(1, depth + 1):
        x = block(x, decoder_width, heads, "glorot_uniform", f"block{i}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    # In float32: it is compared with pixels.
    x = keras.layers.Dense(pixels, dtype="float32", name="pixels", **start)(x[:, prefix:])
    return keras.Model([tokens, order], x, name="decoder")


def _moments(patches):
    """Mean and standard deviation (unbiased) of each patch, `(B, L, 1)`."""
    count = patches.shape[-1]
    mean = ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True) / (count - 1)
    return mean, ops.sqrt(variance + _EPSILON)
