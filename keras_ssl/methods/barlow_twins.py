"""Barlow Twins: make the views' cross-correlation matrix the identity.

Zbontar, Jing, Misra, LeCun, Deny 2021, https://arxiv.org/abs/2103.03230 (section 2). Departures
from the authors' code: the two learning rates, for weights and for vectors, come from a scale of
the loss, as in its first version; on several devices the gradient is that of the loss, theirs is
divided by the number of devices.
"""

import keras

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small


@keras.saving.register_keras_serializable("keras_ssl")
class BarlowTwins(SSLModel):
    """Make each dimension invariant to the view and decorrelated from all other dimensions.

    With z_v = projector(backbone(view v)), each dimension standardised over the batch, and the
    cross-correlation matrix C = z_1^T z_2 / N (paper, equations 1 and 2),

        L = loss_scale ( sum_i (1 - C_ii)^2 + off_diagonal_weight sum_{i != j} C_ij^2 ),

    loss_scale times the width of z when all embeddings coincide. There are no negatives, no teacher
    and no stopped gradient. Views pass the networks one after the other; statistics and C are those
    of the global batch.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to embeddings; by default three Dense layers of 8192,
            batch normalisation and ReLU between them; 2048 below 64 px.
        off_diagonal_weight: lambda of the paper, >= 0; by default that of the authors' code.
        loss_scale: > 0. Under LARS, which cancels it for weight matrices, it sets the learning rate
            of biases and batch normalisation; by default 0.024, with which 0.2 for weights is the
            paper's 0.0048 for vectors; below 64 px 0.1 (solo-learn). 1 gives the paper's loss.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `off_diagonal_weight` is negative or `loss_scale` is not positive.
    """

    family = "redundancy reduction"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-4)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        off_diagonal_weight: float = 0.0051,
        loss_scale: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        if projector is None:
            widths = (2048 if small else 8192,) * 3
            projector = heads.mlp(
                self.backbone.feature_dim,
                widths,
                output_norm=None,
                kernel_initializer=heads.pytorch_uniform(),
            )
        self.projector = projector
        if loss_scale is None:
            loss_scale = 0.1 if small else 0.024
        if not loss_scale > 0:
            raise ValueError(
                f"`loss_scale` must be > 0. Received: loss_scale={loss_scale}. Use 1 for none."
            )
        if not off_diagonal_weight >= 0:
            raise ValueError(
                "`off_diagonal_weight` must be >= 0. "
                f"Received: off_diagonal_weight={off_diagonal_weight}. The paper's is 0.005."
            )
        self.off_diagonal_weight = off_diagonal_weight
        self.loss_scale = loss_scale

    def compute_losses(self, batch, training):
        """Distance of the global batch's cross-correlations from the identity, scaled."""
        z = [
            heads.chain(view, self.backbone, self.projector, training=training)
            for view in batch["views"]
        ]
        z1, z2 = map(distribute.all_gather, z)  # (global N, width) each
        loss = losses.barlow_twins(z1, z2, off_diagonal_weight=self.off_diagonal_weight)
        return {"loss": self.loss_scale * loss}

    def embed(self, images):
        """Embeddings in inference mode, before they are standardised."""
        return keras.ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def default_views(self, image_size):
        """BYOL's two views, of different strength, with torchvision's operations."""
        return views.byol(image_size, form="torchvision")

    def paper_optimizer(self, total_steps, batch_size):
        """LARS, warmed up over 10 epochs (at most a tenth of the run), cosine to a thousandth.

        Learning rate 0.2 * batch / 256, weight decay 1e-6 (authors' code).
        """
        peak = 0.2 * batch_size / 256
        warmup = self.warmup_steps(total_steps)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=1e-3 * peak)
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=1e-6)
