"""ImageGPT: predict the next pixel, or hidden ones, by a transformer over a palette of colours.

Chen, Radford, Child, Wu, Jun, Luan, Sutskever 2020 (iGPT),
https://proceedings.mlr.press/v119/chen20s.html, section 2; sizes and optimizer: section 3.
Departures from the authors' code: colours by mini-batch k-means on a sample of the pixels (theirs
are given as a file); the network has 8 blocks of width 128 by default (their smallest: 24 of 512).
"""

import keras
import tqdm
from keras import ops

from keras_ssl import distribute, optimizers, views
from keras_ssl.backbones import Backbone
from keras_ssl.engine import SSLModel
from keras_ssl.layers.palette import Palette
from keras_ssl.layers.starting import must_start
from keras_ssl.layers.token_embedding import TokenEmbedding
from keras_ssl.layers.transformer import TransformerBlock
from keras_ssl.ops import draws, to_unit_range

_MOST_PIXELS = 128 * 128
OBJECTIVES = ("autoregressive", "bert")


@keras.saving.register_keras_serializable("keras_ssl")
class ImageGPT(SSLModel):
    """A language model of images: tokens are pixels, words are the colours of a palette.

    k-means finds K colours in the pixels of the training images, before the first epoch. With
    t_1 ... t_N the numbers of the nearest colours, row by row,

        "autoregressive":  L = mean_i 1/N sum_n -log p(t_n | t_1 ... t_{n-1}),
        "bert":            L = mean_i 1/|M| sum_{n in M} -log p(t_n | t_m, m not in M),

    in nats a token, where M hides each token with probability `mask_rate`; in the first case a
    place sees those before it alone. The loss starts at log K. A palette loses colours, so these
    are no bits per dimension of 8-bit images: `log_prob` is that of the tokens.

    `encode` gives the mean over places of the normalised input of block `feature_block` + 1: the
    best features are in the middle (section 4.1), as the last blocks serve the prediction.
    `evaluation.layer_probe(model.stages(), ...)` finds the block that is best for given images.

    Args:
        input_shape: (H, W, C) of the images; N = H W is what the cost of attention grows with, to
            the square. The paper has 32 x 32 to 64 x 64.
        palette_size: K.
        width: numbers of a token.
        depth: blocks.
        heads: of the attention; they divide the width.
        objective: "autoregressive" or "bert".
        mask_rate: share of the tokens that "bert" hides, in (0, 1).
        feature_block: number of blocks before the features of `encode`, 1 to `depth`; None for half
            of them.
        remat: whether blocks are computed a second time for the gradient, which saves memory: then
            a block's input is all that is kept of it.
        **kwargs: as `keras.Model`.

    The paper's sizes: S width 512, depth 24, heads 8 (76 million parameters); M 1024, 36, 8 (455);
    L 1536, 48, 16 (1362).

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        mask_noise: uniform in [0, 1), `(batch, N)`; for "bert" alone.

    Raises:
        ValueError: if an argument is outside its range; by `fit`, if it is given ready batches
            before there is a palette.
    """

    family = "generative"
    likelihood_kind = "exact"
    image_side = 32
    code_unit = "pixel"  # the likelihood is that of tokens

    def __init__(
        self,
        input_shape,
        palette_size: int = 512,
        width: int = 128,
        depth: int = 8,
        heads: int = 4,
        objective: str = "autoregressive",
        mask_rate: float = 0.15,
        feature_block: int | None = None,
        remat: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check(input_shape, width, depth, heads, objective, mask_rate, feature_block)
        self.input_shape, self.palette_size = tuple(input_shape), palette_size
        self.width, self.depth, self.heads = width, depth, heads
        self.objective, self.mask_rate = objective, mask_rate
        self.feature_block, self.remat = feature_block, remat
        height, columns, channels = self.input_shape
        self.length = height * columns
        causal = objective == "autoregressive"
        self.palette = Palette(palette_size, channels, name="palette")
        self.embedding = TokenEmbedding(
            palette_size, self.length, width, shifted=causal, name="embedding"
        )
        self.blocks = [
            TransformerBlock(heads, causal, depth, remat=remat, name=f"block{i}")
            for i in range(1, depth + 1)
        ]
        self.norm = keras.layers.RMSNormalization(epsilon=1e-5, name="norm")
        # Zero: all colours are equally likely at first.
        self.head = keras.layers.Dense(
            palette_size, use_bias=False, kernel_initializer="zeros", name="head"
        )
        images = keras.Input(self.input_shape, name="images")
        self._inputs_of_blocks = [self.embedding(self.palette(images))]
        for block in self.blocks:
            self._inputs_of_blocks.append(block(self._inputs_of_blocks[-1]))
        self.head(self.norm(self._inputs_of_blocks[-1]))
        self.backbone = self._until(feature_block or max(1, depth // 2), images)
        self._images = images
        self._row = None

    @property
    def batch_keys(self):
        """Images, and for "bert" the noise that hides tokens."""
        return ("views",) if self.objective == "autoregressive" else ("views", "mask_noise")

    def begin_epoch(self, source):
        """Find the colours, once.

        Raises:
            ValueError: if they have not been found and there are no images.
        """
        if must_start(self.palette.fitted, source, "The palette of ImageGPT"):
            self.palette.fit(source, self.input_shape[:2])

    def compute_losses(self, batch, training):
        """Nats a token, the mean over the tokens to predict and the global batch."""
        (images,) = batch["views"]
        tokens = self.palette(images)
        if self.objective == "autoregressive":
            nats = ops.mean(self._nats(tokens, training=training), axis=-1)
        else:
            hidden = ops.cast(batch["mask_noise"] < self.mask_rate, "float32")
            nats = self._nats(tokens, 1.0 - hidden, training) * hidden
            nats = ops.sum(nats, axis=-1) / ops.maximum(ops.sum(hidden, axis=-1), 1.0)
        return {"loss": ops.mean(distribute.all_gather(nats))}

    def can(self, hook):
        """A model of hidden tokens has no likelihood, and cannot be sampled from."""
        return super().can(hook) and (
            hook not in ("log_prob", "sample") or self.objective == "autoregressive"
        )

    def log_prob(self, images, seed=0):
        """Log P of the tokens of images (not of their 8-bit values), float32 `(B,)`, in nats."""
        self._check_can("log_prob")
        return -ops.sum(self._nats(self.palette(to_unit_range(images))), axis=-1)

    def sample(self, count, seed=0, temperature=1.0, cached=True):
        """Images drawn pixel by pixel, float32 in [0, 1]; a function of `seed`.

        Args:
            count: number of images.
            seed: of the draws.
            temperature: divides the logits, > 0; below 1 likely colours become likelier.
            cached: whether keys and values of the places before are kept, so that a pixel costs one
                place; else each pixel costs the whole network, and the images are the same.
        """
        shape = (count, *self.input_shape)
        return self._drawn(ops.zeros(shape), 0, seed, temperature, cached)

    def complete(self, images, rows, seed=0, temperature=1.0, cached=True):
        """Images whose first `rows` are kept (in the colours of the palette), the rest drawn.

        Args:
            images: `(B, H, W, C)`, uint8 or float in [0, 1].
            rows: number of rows to keep, 0 to H.
            seed: of the draws.
            temperature: as `sample`.
            cached: as `sample`.

        Raises:
            ValueError: if `rows` is outside its range.
        """
        if not 0 <= rows <= self.input_shape[0]:
            raise ValueError(
                f"`rows` must be from 0 to {self.input_shape[0]}. Received: rows={rows}."
            )
        return self._drawn(to_unit_range(images), rows, seed, temperature, cached)

    def stages(self):
        """Encoders that end with each block, by its name: for `evaluation.layer_probe`."""
        return {b.name: self._until(i + 1, self._images) for i, b in enumerate(self.blocks)}

    def default_views(self, image_size):
        """The image, mirrored or not, and the noise."""
        plain = views.plain(image_size)
        if self.objective == "autoregressive":
            return plain
        return views.WithNoise(
            plain, {"mask_noise": {"distribution": "uniform", "shape": (self.length,)}}
        )

    def paper_optimizer(self, total_steps, batch_size):
        """Adam (0.9, 0.95) at 3e-3 (S and M), an epoch of warm-up, cosine; at any batch size."""
        warmup = self.warmup_steps(total_steps, epochs=1)
        schedule = optimizers.WarmupCosine(3e-3, total_steps, warmup)
        return keras.optimizers.Adam(schedule, beta_1=0.9, beta_2=0.95)

    def _until(self, blocks, images):
        """The encoder that ends with the norm after so many blocks, the next block's own."""
        norm = self.blocks[blocks].norm1 if blocks < self.depth else self.norm
        features = norm(self._inputs_of_blocks[blocks])
        name = f"image_gpt_{blocks}"
        return Backbone(keras.Model(images, features, name=f"{name}_network"), name=name)

    def _nats(self, tokens, shown=None, training=False):
        """-log p of each token, float32 `(B, N)`."""
        logits = self._logits(tokens, shown, training)
        return ops.sparse_categorical_crossentropy(tokens, logits, from_logits=True)

    def _logits(self, tokens, shown=None, training=False):
        x = self.embedding(tokens, shown)
        for block in self.blocks:
            x = block(x, training=training)
        return ops.cast(self.head(self.norm(x)), "float32")

    def _drawn(self, images, rows, seed, temperature, cached):
        self._check_can("sample")
        if not temperature > 0:
            raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")
        height, columns, _ = self.input_shape
        count = images.shape[0]
        noise = keras.random.uniform((count, self.length), seed=seed)
        tokens = self.palette(images)
        caches = []
        if cached:
            caches = [b.attention.empty_cache(count, self.length, self.width) for b in self.blocks]
        if self._row is None:
            self._row = self.compile_function(self._draw_row)
        # A run of places a call: there is something to show, and the loop is compiled.
        for row in tqdm.trange(0 if cached else rows, height, desc="rows", disable=None):
            place = ops.convert_to_tensor(row * columns, "int32")
            known = ops.convert_to_tensor(rows * columns, "int32")
            tokens, caches = self._row(tokens, caches, noise, place, known, 1.0 / temperature)
        return self.palette.images(tokens, self.input_shape)

    def _draw_row(self, tokens, caches, noise, first, known, sharpness):
        """Tokens with those of a row drawn from place `first` on, and what is kept for the next.

        Places before `known` keep their token, and only pass through the network.
        """

        def draw(i, state):
            tokens, caches = state
            place = first + i
            if caches:
                logits, caches = self._next_logits(tokens, caches, place)
            else:
                logits = ops.take(self._logits(tokens), place, axis=1)
            drawn = draws.categorical(sharpness * logits, ops.take(noise, place, axis=1))
            token = ops.where(place < known, ops.take(tokens, place, axis=1), drawn)
            return ops.slice_update(tokens, (0, place), token[:, None]), caches

        return ops.fori_loop(0, self.input_shape[1], draw, (tokens, caches))

    def _next_logits(self, tokens, caches, place):
        """Logits of one place from what was kept of those before it."""
        before = ops.take(tokens, ops.maximum(place - 1, 0), axis=1)
        x, kept = self.embedding.step(before, place), []
        for block, cache in zip(self.blocks, caches):
            x, cache = block.step(x, cache, place)
            kept.append(cache)
        return ops.cast(self.head(self.norm(x)), "float32")[:, 0], kept

    def _check_can(self, hook):
        if not self.can(hook):
            raise ValueError(
                f"`{hook}` needs a model of each token by those before it. Received: "
                "objective='bert'. Use 'autoregressive'."
            )


def _check(input_shape, width, depth, heads, objective, mask_rate, feature_block):
    if input_shape[0] * input_shape[1] > _MOST_PIXELS:
        raise ValueError(
            f"ImageGPT takes images of at most {_MOST_PIXELS} pixels, as each attends to each. "
            f"Received: input_shape={tuple(input_shape)}. Bring them to 32 x 32, as the paper does."
        )
    if depth < 1:
        raise ValueError(f"`depth` must be >= 1. Received: depth={depth}.")
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"`heads` must divide `width`. Received: heads={heads}, width={width}.")
    if objective not in OBJECTIVES:
        raise ValueError(
            f"`objective` must be one of {OBJECTIVES}. Received: objective={objective!r}."
        )
    if not 0 < mask_rate < 1:
        raise ValueError(f"`mask_rate` must be in (0, 1). Received: mask_rate={mask_rate}.")
    if feature_block is not None and not 1 <= feature_block <= depth:
        raise ValueError(
            f"`feature_block` must be from 1 to depth={depth}. Received: "
            f"feature_block={feature_block}."
        )
