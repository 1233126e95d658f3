"""VICReg: views alike, each dimension spread over the batch, dimensions uncorrelated.

Bardes, Ponce, LeCun 2022, https://arxiv.org/abs/2105.04906 (section 4). Departures from the
authors' code: no bias before batch normalisation, which would subtract it; both views pass the
same networks.
"""

import keras

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small

_WEIGHTS = ("invariance_weight", "variance_weight", "covariance_weight")


@keras.saving.register_keras_serializable("keras_ssl")
class VICReg(SSLModel):
    """Bring the embeddings of two views together, and keep each view's from collapsing.

    With z_v = projector(backbone(view v)), (N, D), not normalised,

        L = invariance_weight s + variance_weight (v(z_1) + v(z_2)) / 2
            + covariance_weight (c(z_1) + c(z_2))

    where s is the mean squared difference of z_1 and z_2, v(z) the mean over dimensions of
    max(0, 1 - sqrt(variance + 1e-4)), and c(z) the sum of the squared covariances of all pairs of
    dimensions, divided by D. It is the form of the authors' code; see `losses.vicreg`. Nothing is
    compared between images, and no gradient is stopped. Views pass the networks one after the
    other; all statistics are those of the global batch.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to embeddings, the paper's expander; by default three
            Dense layers of 8192, batch normalisation and ReLU between them; 2048 below 64 px.
        invariance_weight: of s, >= 0.
        variance_weight: of v, >= 0; outputs collapse without it.
        covariance_weight: of c, >= 0.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if a weight is negative.
    """

    family = "redundancy reduction"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-4)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        if projector is None:
            projector = heads.mlp(
                self.backbone.feature_dim,
                (2048 if is_small(self.image_shape) else 8192,) * 3,
                output_norm=None,
                kernel_initializer=heads.pytorch_uniform(),
            )
        self.projector = projector
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        for name, weight in self._weights().items():
            if not weight >= 0:
                raise ValueError(
                    f"`{name}` must be >= 0. Received: {name}={weight}. The paper's are 25, 25, 1."
                )

    def compute_losses(self, batch, training):
        """Invariance, variance and covariance of the global batch, weighted and summed."""
        z = [
            heads.chain(view, self.backbone, self.projector, training=training)
            for view in batch["views"]
        ]
        z1, z2 = map(distribute.all_gather, z)  # (global N, width) each
        return {"loss": losses.vicreg(z1, z2, **self._weights())}

    def embed(self, images):
        """Embeddings in inference mode."""
        return keras.ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def default_views(self, image_size):
        """BYOL's two views, of different strength, with torchvision's operations."""
        return views.byol(image_size, form="torchvision")

    def paper_optimizer(self, total_steps, batch_size):
        """LARS, warmed up over 10 epochs (at most a tenth of the run), cosine to a thousandth.

        Learning rate 0.2 * batch / 256, weight decay 1e-6 (section 4.2; the floor is that of the
        authors' code).
        """
        peak = 0.2 * batch_size / 256
        warmup = self.warmup_steps(total_steps)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=1e-3 * peak)
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=1e-6)

    def _weights(self):
        return {name: getattr(self, name) for name in _WEIGHTS}
