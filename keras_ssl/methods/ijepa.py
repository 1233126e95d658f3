"""I-JEPA: predict what a slow teacher makes of hidden blocks of an image, from one context.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas 2023,
https://arxiv.org/abs/2301.08243 (section 3, appendix A). Departures from the authors' code: sizes
of blocks are drawn for each image (theirs for each batch, and contexts are cut to the smallest of
the batch, row by row from the top); the context has the number of patches that is free in every
image, chosen at random; blocks reach the last row and column; there is a class token, which the
predictor does not see; below 64 px two targets, a predictor of 3 blocks of width 48 and a
teacher of momentum 0.99, for short runs on two cores; `encode` gives the student's features, theirs
are the teacher's (`teacher_backbone`; appendix A.1), in short runs no better.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones.parts import token_parts
from keras_ssl.backbones.vit import block
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema
from keras_ssl.layers.mask_tokens import QueryTokens
from keras_ssl.ops import blocks, is_small, masking

_TARGETS = ((0.15, 0.2), (0.75, 1.5))  # share of the grid and height / width, from and to
_CONTEXT = ((0.85, 1.0), (1.0, 1.0))


@keras.saving.register_keras_serializable("keras_ssl")
class IJEPA(SSLModel):
    """Regress the teacher's tokens at target blocks, from tokens of a context apart from them.

    Numbers u that come with the batch place T target blocks of an image, of 15-20 % of its patches
    each, and a context: K patches of a block of 85-100 %, without those of the targets
    (`ops.blocks.multi_block`). The transformer encodes the context alone; for each target block b a
    narrow transformer, the predictor, gets the encoded context and a learned token with the
    position of each place of b, and returns y_bm. With h the teacher's tokens of the whole image,
    each normalised to mean 0 and variance 1,

        L = mean_i mean_{b, m} mean_d huber(y_ibmd - h_ibmd),    huber(e) = e^2 / 2 for |e| < 1,
                                                                            |e| - 1/2 else.

    Backbone and teacher are one after each optimizer step closer, with

        t <- m t + (1 - m) s,    m = momentum + (1 - momentum) progress.

    Beside the loss, `target_deviation` is logged: the standard deviation over the batch of a number
    of h, mean over places and numbers. At collapse it and the loss go to 0.

    Args:
        backbone: a vision transformer of `keras_ssl.backbones`; the authors' has fixed positions:
            `vit_base(positions="sincos", pooling="avg")`.
        predictor: `keras.Model` from (context `(B, K, D)`, places `(B, K)`, places asked for `(B,
            M)`, weights `(B, M)`) to tokens `(B, M, D)`; by default `ijepa_predictor` with 6 blocks
            of width 384 and 12 heads, below 64 px 3 of width 48 and 3 heads.
        num_targets: T, >= 1; by default 4, and 2 below 64 px.
        momentum: m at the start, in [0, 1]; by default 0.996, and 0.99 below 64 px.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        mask_noise: u, uniform in [0, 1), `(batch, 4 + 2 T + L)` for L patches.

    Raises:
        ValueError: if an argument is outside its range, the targets leave no patch for the context,
            the backbone is no such transformer, or the predictor has another shape.
    """

    family = "masked"
    loss_names = ("loss", "target_deviation")
    needs_tokens = True
    batch_keys = ("views", "mask_noise")
    short_run = optimizers.ShortRun(
        below=10_000, learning_rate=1e-3, weight_decay=(0.04, 0.4), batch_size=32
    )

    def __init__(
        self,
        backbone,
        predictor: keras.Layer | None = None,
        num_targets: int | None = None,
        momentum: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self._parts = token_parts(self.backbone)
        grid, width, small = self._parts.grid, self._parts.width, is_small(self.image_shape)
        if momentum is None:
            momentum = 0.99 if small else 0.996
        if num_targets is None:
            num_targets = 2 if small else 4
        self.num_targets, self.momentum = num_targets, momentum
        if not 0 <= momentum <= 1 or not num_targets >= 1:
            raise ValueError(
                "`momentum` must be in [0, 1] and `num_targets` >= 1. Received: "
                f"momentum={momentum}, num_targets={num_targets}."
            )
        self._target_sizes = blocks.block_sizes(grid, *_TARGETS)
        self._context_sizes = blocks.block_sizes(grid, *_CONTEXT)
        self.context = blocks.context_length(grid, num_targets, self._target_sizes)
        if self.context < 1:
            raise ValueError(
                f"`num_targets` must leave patches for the context. Received: num_targets="
                f"{num_targets}, blocks of up to {self._target_sizes.prod(1).max()} of the "
                f"{math.prod(grid)} patches. Take fewer, or smaller patches."
            )
        asked = (math.prod(grid) - self.context) // num_targets
        if predictor is None:
            size = (48, 3, 3) if small else (384, 6, 12)
            predictor = ijepa_predictor(grid, width, self.context, asked, *size)
        self.predictor = predictor
        if tuple(self.predictor.output_shape[1:]) != (asked, width):
            raise ValueError(
                f"`predictor` must give ({asked}, {width}) for a block: a token for each place. "
                f"Received: a model that gives {tuple(self.predictor.output_shape[1:])}."
            )
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self._teacher_parts = token_parts(self.teacher_backbone)

    def compute_losses(self, batch, training):
        """Huber's error at the places of the targets, the mean over the global batch."""
        (images,) = batch["views"]
        sizes = (self.num_targets, self._target_sizes, self._context_sizes)
        places = blocks.multi_block(batch["mask_noise"], self._parts.grid, *sizes)
        h = self._targets(images, training)
        asked = ops.reshape(places.targets, (ops.shape(images)[0], -1))  # (B, T M)
        predicted = self._predict(images, places, training)
        weights = ops.reshape(places.weights, ops.shape(asked))
        targets = masking.first_places(h, asked, asked.shape[1])
        errors = distribute.all_gather(losses.smooth_l1(predicted, targets, weights))
        return {"loss": ops.mean(errors), "target_deviation": _deviation(h)}

    def after_step(self):
        """The teacher follows the student, ever more slowly."""
        share = self.share_of_run(self.step - 1)  # the optimizer has counted this step already
        ema.update(self.teacher_backbone, self.backbone, self.momentum * (1 - share) + share)

    def default_views(self, image_size):
        """A crop of 30-100 % of the area, nothing else; and the numbers of the masks."""
        grid = self._parts.grid
        numbers = blocks.multi_block_numbers(grid, self.num_targets)
        noise = {"distribution": "uniform", "shape": (numbers,)}
        return views.WithNoise(views.ijepa(image_size), {"mask_noise": noise})

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW, 1e-3 * batch / 2048 after 40 epochs of warm-up, along a cosine to a thousandth.

        The warm-up takes a tenth of the run at most; weight decay from 0.04 to 0.4 along a cosine,
        not on biases and gains.
        """
        peak, warmup = 1e-3 * batch_size / 2048, self.warmup_steps(total_steps, epochs=40)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=1e-3 * peak)
        decay = keras.optimizers.schedules.CosineDecay(0.04, total_steps, alpha=10.0)
        return optimizers.AdamW(schedule, decay, epsilon=1e-8)

    def _targets(self, images, training):
        """The teacher's tokens of all patches `(B, L, D)`, float32, each normalised."""
        parts = self._teacher_parts
        tokens = parts.blocks(parts.positions(parts.patches(images)), training=training)
        tokens = ops.stop_gradient(ops.cast(tokens[:, parts.prefix :], "float32"))
        mean, variance = ops.moments(tokens, axes=-1, keepdims=True)
        return (tokens - mean) * ops.rsqrt(variance + 1e-5)

    def _predict(self, images, places, training):
        """Predictions at the places of all targets, block by block, `(B, T M, D)`."""
        tokens = self._parts.positions(self._parts.patches(images))
        prefix = self._parts.prefix
        seen = masking.first_places(tokens[:, prefix:], places.context, self.context)
        encoded = self._parts.blocks(
            ops.concatenate([tokens[:, :prefix], seen], axis=1), training=training
        )
        # Blocks are predicted each by itself: as images of their own, one after the other.
        context, at = (
            ops.repeat(x, self.num_targets, axis=0) for x in (encoded[:, prefix:], places.context)
        )
        places_of = places.targets.shape[-1]
        asked, weights = (ops.reshape(x, (-1, places_of)) for x in (places.targets, places.weights))
        predicted = self.predictor([context, at, asked, weights], training=training)
        shape = (ops.shape(images)[0], self.num_targets * places_of, predicted.shape[-1])
        return ops.reshape(predicted, shape)


def ijepa_predictor(grid, width, context, asked, predictor_width, depth, heads):
    """The predictor: (`(B, K, D)`, places `(B, K)` and `(B, M)`, weights) -> tokens `(B, M, D)`.

    Places of weight 0, which fill up the smaller blocks, are seen by no token.

    Args:
        grid: (h, w) of the patches.
        width: D, of the encoder's tokens.
        context: K, tokens of the context.
        asked: M, places of a block.
        predictor_width: of its own tokens.
        depth: number of blocks.
        heads: of their attention.
    """
    start = {"kernel_initializer": "glorot_uniform"}
    tokens = keras.Input((context, width), name="tokens")
    places = keras.Input((context,), dtype="int32", name="places")
    queries = keras.Input((asked,), dtype="int32", name="asked")
    weights = keras.Input((asked,), dtype="float32", name="weights")
    x = keras.layers.Dense(predictor_width, name="embedding", **start)(tokens)
    x = QueryTokens(grid, name="query_tokens")(x, places, queries)
    known = ops.ones_like(places, dtype="bool")
    attended = ops.concatenate([known, weights > 0], axis=1)  # (B, K + M)
    attended = ops.repeat(attended[:, None, :], context + asked, axis=1)
    for i in range(1, depth + 1):
        x = block(x, predictor_width, heads, "glorot_uniform", f"block{i}", attended=attended)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    # In float32: it is compared with the teacher's.
    x = keras.layers.Dense(width, dtype="float32", name="outputs", **start)(x[:, context:])
    return keras.Model([tokens, places, queries, weights], x, name="predictor")


def _deviation(h):
    """Standard deviation over the global batch of each number at each place, the mean of all."""
    moments = ops.stack([h, ops.square(h)])
    moments = ops.mean(moments, axis=1)[None]  # (1, 2, L, D): of this replica's images
    first, second = ops.unstack(ops.mean(distribute.all_gather(moments), axis=0))
    return ops.mean(ops.sqrt(ops.maximum(second - ops.square(first), 0.0)))
