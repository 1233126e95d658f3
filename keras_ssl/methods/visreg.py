"""VISReg: views alike, and embeddings whose centre, scale and shape are each the normal one's.

Wu, Balestriero, Levine 2026, https://arxiv.org/abs/2606.02572 (section 3). Departures from the
authors' code: slices are a function of seed and step, the same on all devices (theirs differ, each
judging the same global batch); 1e-4 is added to standard deviations, as in the paper (theirs is
1e-6); below 64 px, for which there is no setting of theirs, views are LeJEPA's, and head and weight
the authors' for Imagenette.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import draws, is_small

_WEIGHTS = ("center_weight", "scale_weight", "shape_weight")


@keras.saving.register_keras_serializable("keras_ssl")
class VISReg(SSLModel):
    """Bring the embeddings of an image's views together, and their distribution to N(0, I).

    With z_v = projector(backbone(view v)), not normalised, and c the mean over the global views,

        L = (1 - regularizer_weight) mean_v |z_v - c|^2 / D
            + regularizer_weight (center_weight center + scale_weight scale + shape_weight shape)

    (paper, equations 1 to 8); the first term is over all views, see `losses.invariance`. The other
    three judge each view's batch by itself: its means, its standard deviations, and after both are
    taken away its sliced Wasserstein distance from the normal distribution, along directions drawn
    anew at every step; see `losses.center_and_scale` and `losses.sliced_wasserstein`. It is LeJEPA
    with a regularizer whose gradient does not vanish near collapse. There is no teacher and no
    predictor.

    Global views are those of the first one's size. Views of one size pass backbone and projector
    as one batch, as the authors'.

    Beside the loss, its four parts are logged, without weights.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        projector: `keras.Model` from features to embeddings; by default two layers of 2048, batch
            normalisation and GELU, then Dense 256; below 64 px ReLU and Dense 128, as the authors'
            for Imagenette.
        regularizer_weight: lambda, in [0, 1]; by default the authors' 0.9 for ImageNet, and below
            64 px their 0.6 for small data.
        center_weight: of the distance of the means from 0, >= 0.
        scale_weight: of the distance of the standard deviations from 1, >= 0; without it embeddings
            may shrink.
        shape_weight: of the sliced Wasserstein distance, >= 0.
        num_slices: random directions of a step, >= 1; by default the authors' 4096, and 1024 below
            64 px. Projections are a tensor of 0.04 GB for 4096, 10 views and 256 images.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1],
            global views first.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "redundancy reduction"
    loss_names = ("loss", "invariance", "center", "scale", "shape")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        regularizer_weight: float | None = None,
        center_weight: float = 1.0,
        scale_weight: float = 1.0,
        shape_weight: float = 1.0,
        num_slices: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.projector = projector or heads.mlp(
            self.backbone.feature_dim,
            (2048, 2048, 128 if small else 256),
            output_norm=None,
            use_bias=True,
            activation="relu" if small else "gelu",
            kernel_initializer=heads.pytorch_uniform(),
        )
        if regularizer_weight is None:
            regularizer_weight = 0.6 if small else 0.9
        if num_slices is None:
            num_slices = 1024 if small else 4096
        self.regularizer_weight = regularizer_weight
        self.center_weight, self.scale_weight = center_weight, scale_weight
        self.shape_weight, self.num_slices = shape_weight, num_slices
        self._check()

    def compute_losses(self, batch, training):
        """Distance of the views from their centre; centre, scale and shape of each view's batch."""
        images = batch["views"]
        heads.check_views("VISReg", images, "lejepa")
        z = heads.chain_views(images, self.backbone, self.projector, training=training)
        z = distribute.all_gather(ops.cast(ops.stack(z, axis=1), "float32"))
        z = ops.swapaxes(z, 0, 1)  # (V, global N, D)
        num_global = sum(view.shape[1:3] == images[0].shape[1:3] for view in images)
        invariance = losses.invariance(z, num_global)
        center, scale = losses.center_and_scale(z)
        slices = draws.slices(self.draw_key, z.shape[-1], self.num_slices)
        shape = losses.sliced_wasserstein(z, slices)
        regularizer = (
            self.center_weight * center + self.scale_weight * scale + self.shape_weight * shape
        )
        share = self.regularizer_weight
        return {
            "loss": (1.0 - share) * invariance + share * regularizer,
            "invariance": invariance,
            "center": center,
            "scale": scale,
            "shape": shape,
        }

    def embed(self, images):
        """Embeddings in inference mode."""
        return ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def default_views(self, image_size):
        """LeJEPA's multi-crop with four large and six small views; two of one size below 64 px.

        Networks that take one size alone get the large ones.
        """
        crops = (4, 6 if self.backbone.takes_any_size else 0)
        return views.lejepa(image_size, crops=None if is_small(image_size) else crops)

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW, warmed up over five epochs, cosine to a thousandth of the rate; clipped.

        The authors' configuration for ImageNet: learning rate 9e-4 for any batch, weight decay 0.05
        but for biases and normalisation, gradients clipped at a norm of 1. A warm-up takes at most
        a tenth of the run.
        """
        peak = 9e-4
        warmup = self.warmup_steps(total_steps, epochs=5)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=1e-3 * peak)
        return optimizers.AdamW(schedule, weight_decay=0.05, global_clipnorm=1.0, epsilon=1e-8)

    def _check(self):
        if not 0 <= self.regularizer_weight <= 1:
            raise ValueError(
                "`regularizer_weight` must be in [0, 1]. Received: "
                f"regularizer_weight={self.regularizer_weight}. The paper's are 0.6 and 0.9."
            )
        for name in _WEIGHTS:
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be >= 0. Received: {name}={getattr(self, name)}.")
        if self.num_slices < 1:
            raise ValueError(f"`num_slices` must be >= 1. Received: num_slices={self.num_slices}.")
