"""SimMIM: regress the pixels of hidden patches by one layer on a transformer that sees the rest.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu 2021, https://arxiv.org/abs/2111.09886 (section 3).
Departures from the authors' code: vision transformers with absolute positions alone (theirs: Swin,
and ViT with a shared relative bias); below 64 px units of 8 px, as 32 px would hide whole images.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.backbones.parts import token_parts
from keras_ssl.engine import SSLModel
from keras_ssl.ops import is_small, masking, to_unit_range

_MASK_SEED = 0  # of the patches that `reconstruct` hides


@keras.saving.register_keras_serializable("keras_ssl")
class SimMIM(SSLModel):
    """Put a learned token in the place of most patches, and regress their pixels linearly.

    The image is divided into units of `mask_unit` pixels a side; numbers that come with the batch
    decide which share `mask_rate` of them is hidden. The embeddings of hidden patches are replaced
    by the token before positions are added, all tokens pass the transformer, and

        L = mean over the hidden pixels and channels of |x - head(token)|,

    x being the image as the backbone normalises it: about 0.8 for a constant of the mean colour.
    The mean is over all hidden pixels of the global batch, of which each image has as many.

    `encode` gives the backbone's features of whole images. `reconstruct` hides the same units of
    every image and gives these back, visible ones as they are.

    Args:
        backbone: a vision transformer of `keras_ssl.backbones`.
        head: `keras.Model` from tokens `(B, L, D)` to pixels `(B, L, patch^2 C)`; by default one
            Dense layer.
        mask_rate: share of the units that are hidden, rounded up, in (0, 1).
        mask_unit: side of a unit in pixels, a multiple of the patch that divides both sides of the
            image; by default 32, and 8 below 64 px.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        mask_noise: uniform in [0, 1), `(batch, number of units)`; the largest are hidden.

    Raises:
        ValueError: if an argument is outside its range, the backbone is no such transformer, or the
            head has another shape.
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
        head: keras.Layer | None = None,
        mask_rate: float = 0.6,
        mask_unit: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self._parts = token_parts(self.backbone)
        height, width, channels = self.image_shape
        self.patch_size = height // self._parts.grid[0]
        if mask_unit is None:
            mask_unit = 8 if is_small(self.image_shape) else 32
        self.mask_rate, self.mask_unit = mask_rate, mask_unit
        if not 0 < mask_rate < 1:
            raise ValueError(f"`mask_rate` must be in (0, 1). Received: mask_rate={mask_rate}.")
        if mask_unit < 1 or height % mask_unit or width % mask_unit or mask_unit % self.patch_size:
            raise ValueError(
                f"`mask_unit` must divide the sides of the image, {height} x {width}, and be a "
                f"multiple of the patch, {self.patch_size}. Received: mask_unit={mask_unit}."
            )
        length, pixels = math.prod(self._parts.grid), self.patch_size**2 * channels
        self.head = head or _linear(length, self._parts.width, pixels)
        if tuple(self.head.output_shape[1:]) != (length, pixels):
            raise ValueError(
                f"`head` must give ({length}, {pixels}) an image: the pixels of each patch. "
                f"Received: a model that gives {tuple(self.head.output_shape[1:])}."
            )
        self.mask_token = self.add_weight(
            (self._parts.width,), keras.initializers.RandomNormal(stddev=0.02), name="mask_token"
        )

    def compute_losses(self, batch, training):
        """Absolute error of the hidden pixels, the mean over the global batch."""
        (images,) = batch["views"]
        hidden = self._hidden_patches(batch["mask_noise"])  # (B, L)
        predicted = self._predict(images, hidden, training)
        targets = masking.patchify(self._normalized(images), self.patch_size)
        errors = ops.mean(ops.abs(predicted - targets), axis=-1)
        errors = ops.sum(errors * hidden, axis=-1) / ops.sum(hidden, axis=-1)
        return {"loss": ops.mean(distribute.all_gather(errors))}

    def reconstruct(self, images):
        """Images with the hidden units as they are predicted, float32 in [0, 1]."""
        images = to_unit_range(images)
        hidden = self._shown(images)
        predicted = self._predict(images, hidden, training=False)
        # What the preprocessing did to the pixels is linear, the same everywhere.
        low, high = (self._normalized(ops.full((1, *self.image_shape), x)) for x in (0.0, 1.0))
        low, high = (masking.patchify(x, self.patch_size) for x in (low, high))
        predicted = ops.clip((predicted - low) / (high - low), 0.0, 1.0)
        return self._filled(images, hidden, predicted)

    def mask(self, images):
        """Images with the units that `reconstruct` hides in grey."""
        images = to_unit_range(images)
        return self._filled(images, self._shown(images), 0.5)

    def default_views(self, image_size):
        """A crop of 67-100 % of the area, mirrored or not; and the noise."""
        noise = {"distribution": "uniform", "shape": (self._units(image_size),)}
        return views.WithNoise(views.simmim(image_size), {"mask_noise": noise})

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW, 2e-4 * batch / 512 after 10 epochs of warm-up, along a cosine to 1e-5.

        The warm-up takes a tenth of the run at most; weight decay 0.05, not on biases and gains;
        gradients are clipped at 5. The setting of 100 epochs; the authors train 800 at half the
        rate.
        """
        peak, warmup = 2e-4 * batch_size / 512, self.warmup_steps(total_steps)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=min(peak, 1e-5))
        return optimizers.AdamW(schedule, weight_decay=0.05, epsilon=1e-8, global_clipnorm=5.0)

    def _units(self, image_size):
        return (image_size[0] // self.mask_unit) * (image_size[1] // self.mask_unit)

    def _shown(self, images):
        """The hidden patches of pictures, the same for each image."""
        noise = keras.random.uniform((1, self._units(self.image_shape)), seed=_MASK_SEED)
        return self._hidden_patches(ops.broadcast_to(noise, (ops.shape(images)[0], noise.shape[1])))

    def _filled(self, images, hidden, values):
        """Images whose hidden patches have other values."""
        patches, hidden = masking.patchify(images, self.patch_size), hidden[:, :, None]
        patches = hidden * values + (1 - hidden) * patches
        return masking.unpatchify(patches, self._parts.grid, self.patch_size)

    def _hidden_patches(self, noise):
        """float32 `(B, L)`: 1 where the patch lies in a hidden unit."""
        height, width = self.image_shape[:2]
        units, times = noise.shape[1], self.mask_unit // self.patch_size
        visible = units - math.ceil(units * self.mask_rate)
        hidden = masking.hidden_places(masking.random_order(noise), visible)
        hidden = ops.reshape(hidden, (-1, height // self.mask_unit, width // self.mask_unit))
        hidden = ops.repeat(ops.repeat(hidden, times, axis=1), times, axis=2)
        return ops.reshape(hidden, (-1, math.prod(self._parts.grid)))

    def _predict(self, images, hidden, training):
        """Pixels of each patch in units of the normalised image, float32 `(B, L, patch^2 C)`."""
        patches = self._parts.patches(images)
        mask = ops.cast(ops.reshape(hidden, (-1, *self._parts.grid, 1)), patches.dtype)
        token = ops.cast(self.mask_token, patches.dtype)
        tokens = self._parts.positions(patches * (1 - mask) + token * mask)
        encoded = self._parts.blocks(tokens, training=training)
        return ops.cast(self.head(encoded[:, self._parts.prefix :], training=training), "float32")

    def _normalized(self, images):
        return ops.cast(self.backbone.prepared(images), "float32")


def _linear(length, width, pixels):
    """One layer from each token to the pixels of its patch, in float32."""
    tokens = keras.Input((length, width), name="tokens")
    x = keras.layers.Dense(pixels, dtype="float32", name="pixels")(tokens)
    return keras.Model(tokens, x, name="head")
