"""DCL: SimCLR whose loss leaves the positive out of the denominator, for small batches.

Yeh, Hong, Hsu, Liu, Chen, LeCun 2021, https://arxiv.org/abs/2110.06848 (section 3). Departures from
the public code for CIFAR (raminnakhli/Decoupled-Contrastive-Learning): negatives are masked, there
a constant near -103 is added to their logarithms; both views pass as one batch; the projector's
last layer has no bias; the weights of DCLW carry no gradient.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small


@keras.saving.register_keras_serializable("keras_ssl")
class DCL(SSLModel):
    """Contrast the two views of each image with the other images' views, pull and push decoupled.

    With z = projector(backbone(view)) of 2N views, s(i, j) = cosine(z_i, z_j) / temperature and
    p(i) the other view of i's image,

        L = 1/(2N) sum_i ( -w_i s(i, p(i)) + log sum_{j not in {i, p(i)}} exp s(i, j) ),

    log(2N - 2) when all embeddings coincide, and of either sign. In SimCLR's loss the positive also
    stands in the denominator, which shrinks the gradient of pairs that are already close, the more
    the smaller the batch. DCL has w = 1; DCLW weighs images whose views lie far apart more, by
    w_i = 2 - N softmax_i(cosine(z_i, z_p(i)) / sigma). Both views pass the networks as one batch,
    and the batch is the global one.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to the space of the loss; by default SimCLR's, and up
            to 64 px Dense 512, batch normalisation, ReLU, Dense 128.
        temperature: positive float.
        sigma: positive float for DCLW (the paper's is 0.5); None for DCL.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `temperature` or `sigma` is not positive.
    """

    family = "contrastive"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        temperature: float = 0.1,
        sigma: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not temperature > 0 or (sigma is not None and not sigma > 0):
            raise ValueError(
                "`temperature` must be positive, and `sigma` positive or None. "
                f"Received: temperature={temperature}, sigma={sigma}."
            )
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or self._default_projector()
        self.temperature = temperature
        self.sigma = sigma

    def compute_losses(self, batch, training):
        """The decoupled loss of the global batch."""
        z = heads.chain(
            ops.concatenate(batch["views"]), self.backbone, self.projector, training=training
        )
        z1, z2 = (distribute.all_gather(half) for half in ops.split(z, 2))  # (global N, width) each
        loss = losses.decoupled_contrastive(z1, z2, temperature=self.temperature, sigma=self.sigma)
        return {"loss": loss}

    def embed(self, images):
        """Projections of images in inference mode: the space in which the loss compares."""
        return ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def default_views(self, image_size):
        """SimCLR's two views; below 64 px those of MoCo's CIFAR-10 demo, as the public code."""
        return views.moco(image_size) if is_small(image_size) else views.simclr(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9, L2 1e-4 and a cosine from 0.03 * batch / 256, as MoCo's.

        Below 64 px Adam at a rate of 1e-3 throughout, with L2 1e-6 in the gradient (public code).
        """
        if is_small(self.image_shape):
            return optimizers.Adam(1e-3, weight_decay=1e-6)
        schedule = optimizers.WarmupCosine(0.03 * batch_size / 256, total_steps)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)

    def _default_projector(self):
        width = self.backbone.feature_dim
        if not is_small(self.image_shape):
            return heads.mlp(width, (width, 128))
        return heads.mlp(
            width, (512, 128), output_norm=None, kernel_initializer=heads.pytorch_uniform()
        )
