"""LeJEPA: views alike, and embeddings that are normally distributed in every direction.

Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544 (sections 4 and 5). Departures from the
authors' code: slices are a function of seed and step, the same on all devices; the rate ends at a
thousandth of its peak, as their README says (their short example has another floor); below 64 px
head, views and weight are about those of another implementation for CIFAR-10,
https://github.com/facebookresearch/eb_jepa, as the authors have no such setting.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import draws, is_small


@keras.saving.register_keras_serializable("keras_ssl")
class LeJEPA(SSLModel):
    """Bring the embeddings of an image's views together, and their distribution to N(0, I).

    With z_v = projector(backbone(view v)), not normalised, and c the mean over the global views,

        L = invariance_weight mean_v |z_v - c|^2 / D + sigreg_weight mean_v SIGReg(z_v),

    the first term over all views; see `losses.invariance`. SIGReg tests each view's batch for
    normality along random directions, drawn anew at every step; see `losses.sigreg`. The paper has
    one weight, lambda for SIGReg and 1 - lambda for the first term. There is no teacher, no
    predictor and no stopped gradient: a collapsed batch is far from normal.

    Global views are those of the first one's size. Views of one size pass backbone and projector
    as one batch, as the authors'.

    The form of https://github.com/facebookresearch/eb_jepa is mse(z_1, z_2) + 10 SIGReg / N for two
    views, whose mean squared distance from the centre is a quarter of the mse: `sigreg_weight=10`,
    `invariance_weight=4`, `num_points=10`, `scale_by_batch=False`.

    Beside the loss, `invariance` and `sigreg` are logged, without weights.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        projector: `keras.Model` from features to embeddings; by default two layers of 2048, batch
            normalisation and ReLU, then Dense 64; below 64 px 128, eb_jepa's best on CIFAR-10.
        sigreg_weight: lambda, >= 0; by default 0.02, of the authors' example, and 0.01 below 64 px,
            both for batches of 256: SIGReg has the number of images as a factor.
        invariance_weight: >= 0; None for 1 - lambda.
        num_slices: random directions of a step, >= 1; the authors have 256 or 1024.
        num_points: of the integral over frequencies from -3 to 3, >= 2.
        scale_by_batch: whether SIGReg has its factor N.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1],
            global views first.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "redundancy reduction"
    loss_names = ("loss", "invariance", "sigreg")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=1e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        sigreg_weight: float | None = None,
        invariance_weight: float | None = None,
        num_slices: int = 256,
        num_points: int = 33,
        scale_by_batch: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.projector = projector or heads.mlp(
            self.backbone.feature_dim,
            (2048, 2048, 128 if small else 64),
            output_norm=None,
            use_bias=True,
            kernel_initializer=heads.pytorch_uniform(),
        )
        if sigreg_weight is None:
            sigreg_weight = 0.01 if small else 0.02
        self.sigreg_weight, self.invariance_weight = sigreg_weight, invariance_weight
        self.num_slices, self.num_points = num_slices, num_points
        self.scale_by_batch = scale_by_batch
        self._check()

    def compute_losses(self, batch, training):
        """Distance of the views from their centre, and of each view's batch from N(0, I)."""
        images = batch["views"]
        heads.check_views("LeJEPA", images, "lejepa")
        z = heads.chain_views(images, self.backbone, self.projector, training=training)
        z = distribute.all_gather(ops.cast(ops.stack(z, axis=1), "float32"))
        z = ops.swapaxes(z, 0, 1)  # (V, global N, D)
        num_global = sum(view.shape[1:3] == images[0].shape[1:3] for view in images)
        invariance = losses.invariance(z, num_global)
        slices = draws.slices(self.draw_key, z.shape[-1], self.num_slices)
        sigreg = losses.sigreg(z, slices, self.num_points, scale_by_batch=self.scale_by_batch)
        weight = self.invariance_weight
        weight = 1.0 - self.sigreg_weight if weight is None else weight
        return {
            "loss": weight * invariance + self.sigreg_weight * sigreg,
            "invariance": invariance,
            "sigreg": sigreg,
        }

    def embed(self, images):
        """Embeddings in inference mode."""
        return ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def default_views(self, image_size):
        """Multi-crop: two large and six small views.

        Two of one size below 64 px, and for networks that take one size alone.
        """
        return views.lejepa(image_size, None if self.backbone.takes_any_size else (2, 0))

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW, warmed up over one epoch, cosine to a thousandth of the rate.

        The README of the authors' code: learning rate 5e-4 for any batch, weight decay 0.05 for
        transformers and 5e-4 for others. A warm-up takes at most a tenth of the run.
        """
        peak = 5e-4
        warmup = self.warmup_steps(total_steps, epochs=1)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=1e-3 * peak)
        decay = 0.05 if self.backbone.kind == "tokens" else 5e-4
        return keras.optimizers.AdamW(schedule, weight_decay=decay, epsilon=1e-8)

    def _check(self):
        for name in ("sigreg_weight", "invariance_weight"):
            weight = getattr(self, name)
            if weight is not None and not weight >= 0:
                raise ValueError(f"`{name}` must be >= 0. Received: {name}={weight}.")
        if self.invariance_weight is None and self.sigreg_weight > 1:
            raise ValueError(
                "`sigreg_weight` must be at most 1 where `invariance_weight` is None, which stands "
                f"for 1 - sigreg_weight. Received: sigreg_weight={self.sigreg_weight}. Give both."
            )
        for name, least in (("num_slices", 1), ("num_points", 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be >= {least}. Received: {name}={getattr(self, name)}."
                )
