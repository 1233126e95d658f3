"""MoCo v3: pick the key of an image's other view among the keys of the batch, without a queue.

Chen, Xie, He 2021, https://arxiv.org/abs/2104.02057 (section 3, algorithm 1; section 4 on vision
transformers). Departures from the authors' code: none known in method and heads; below 64 px, of
which it says nothing, the default views are BYOL's for such images.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class MoCoV3(SSLModel):
    """Contrast the query of each view with the keys of the other views, made by a slow encoder.

    With q_v = predictor(projector(backbone(view v))) and k_v the projection by the key encoder, all
    of unit length,

        L = 2 t ( c(q_1, k_2) + c(q_2, k_1) ),
        c(q, k) = mean_i -log( exp(q_i k_i / t) / sum_j exp(q_i k_j / t) )

    over the global batch; 4 t log N when all coincide. Keys carry no gradient. The factor 2 t, of
    the authors' code and algorithm, keeps the gradient's scale the same for all temperatures.

    The key encoder is the moving average of backbone and projector, k <- m k + (1 - m) s with

        m = 1 - (1 - momentum) (1 + cos(pi progress)) / 2.

    The authors move it in step n before its keys are made, with the progress n / T. Here it moves
    after each optimizer step with the progress that this step leaves, which is the same: in step 0
    both encoders are equal, and m = 1 after the last. It normalises by its own batch; views pass
    the networks one after the other, each with statistics of its own.

    Heads, temperature and optimizer come in two forms, for vision transformers (backbones whose
    output is tokens) and for convolutional networks. The authors' transformer is

        backbones.vit_small(heads=12, positions="sincos", initializer="glorot_uniform",
                            frozen_patches=True)

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
            The authors' ResNets start residual blocks as identities: `zero_init_residual=True`.
        projector: `keras.Model` from features to projections; by default Dense 4096 and 256, each
            with batch normalisation, the first with ReLU, the last without gain and offset; for
            transformers Dense 4096, 4096 and 256. For others 1024 stands in the place of 4096
            below 64 px, here and in the predictor.
        predictor: `keras.Model` from projections to projections; by default Dense 4096, batch
            normalisation, ReLU, Dense 256; for transformers with batch normalisation without gain
            and offset at the end.
        temperature: t, positive float; by default 0.2 for transformers and below 64 px
            (solo-learn's for CIFAR-10), else 1.
        momentum: m at the start, in [0, 1]; None for the authors' by the length of the run: 0.99
            below 1000 epochs, then 0.996. It is kept where that length is unknown.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive or `momentum` outside [0, 1].
    """

    family = "contrastive"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        predictor: keras.Layer | None = None,
        temperature: float | None = None,
        momentum: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        transformer = self._is_transformer()
        hidden = 1024 if is_small(self.image_shape) and not transformer else 4096
        if projector is None:
            widths = (hidden, hidden, 256) if transformer else (hidden, 256)
            projector = _mlp(self.backbone.feature_dim, widths, "plain", "projector")
        self.projector = projector
        if predictor is None:
            width = self.projector.output_shape[-1]
            predictor = _mlp(width, (hidden, width), "plain" if transformer else None, "predictor")
        self.predictor = predictor
        if temperature is None:
            temperature = 0.2 if transformer or is_small(self.image_shape) else 1.0
        if not temperature > 0 or not (momentum is None or 0 <= momentum <= 1):
            raise ValueError(
                "`temperature` must be positive and `momentum` in [0, 1]. Received: "
                f"temperature={temperature}, momentum={momentum}."
            )
        self.temperature = temperature
        self.momentum = momentum
        self.key_backbone = ema.make_teacher(self.backbone)
        self.key_projector = ema.make_teacher(self.projector)

    def compute_losses(self, batch, training):
        """Queries of each view against the keys of the other, in the global batch."""
        queries, keys = [], []
        for view in batch["views"]:  # each with batch statistics of its own
            q = heads.chain(view, self.backbone, self.projector, self.predictor, training=training)
            q = ops.cast(q, "float32")
            k = heads.chain(view, self.key_backbone, self.key_projector, training=training)
            k = ops.stop_gradient(ops.cast(k, "float32"))
            queries.append(distribute.all_gather(q))
            keys.append(distribute.all_gather(k))
        there = losses.inter_view_nce(queries[0], keys[1], self.temperature)
        back = losses.inter_view_nce(queries[1], keys[0], self.temperature)
        # 2 t undoes the division of the scores by t in the gradient
        return {"loss": 2.0 * self.temperature * (there + back)}

    def after_step(self):
        """The key encoder moves to where it makes the keys of the next step."""
        decay = optimizers.cosine_momentum(self.progress, 1, self._first_momentum())
        ema.update(self.key_backbone, self.backbone, decay)
        ema.update(self.key_projector, self.projector, decay)

    def embed(self, images):
        """Unit-length projections in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """BYOL's views with torchvision's operations.

        Above 64 px crops are bilinear, for ResNets of 20 % of the area or more.
        """
        if is_small(image_size):
            return views.byol(image_size, form="torchvision")
        min_scale = 0.08 if self._is_transformer() else 0.2
        return views.byol(image_size, min_scale, "bilinear", form="torchvision")

    def paper_optimizer(self, total_steps, batch_size):
        """Warm-up, then cosine to zero.

        Transformers: AdamW, learning rate 1.5e-4 * batch / 256, weight decay 0.1 on all variables,
        warm-up of 40 epochs. Others: LARS, learning rate 0.6 * batch / 256 (0.3 from 300 epochs
        on), weight decay 1e-6, and 1.5e-6 from 1000 epochs on, warm-up of 10. A warm-up takes at
        most a tenth of the run (transformers: 15 %).
        """
        epochs = self.epochs_of(total_steps)
        if self._is_transformer():
            warmup = self.warmup_steps(total_steps, epochs=40, most=0.15)
            schedule = optimizers.WarmupCosine(1.5e-4 * batch_size / 256, total_steps, warmup)
            return keras.optimizers.AdamW(schedule, weight_decay=0.1, epsilon=1e-8)
        peak = (0.3 if 300 <= epochs < math.inf else 0.6) * batch_size / 256
        schedule = optimizers.WarmupCosine(peak, total_steps, self.warmup_steps(total_steps))
        decay = 1.5e-6 if 1000 <= epochs < math.inf else 1e-6
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=decay)

    def _first_momentum(self):
        if self.momentum is not None:
            return self.momentum
        return optimizers.by_epochs(self.run_epochs, {0: 0.99, 1000: 0.996})

    def _is_transformer(self):
        return self.backbone.kind == "tokens"


def _mlp(width, widths, output_norm, name):
    """Dense layers without biases, whose kernels start as PyTorch's."""
    start = heads.pytorch_uniform()
    return heads.mlp(width, widths, output_norm=output_norm, kernel_initializer=start, name=name)
