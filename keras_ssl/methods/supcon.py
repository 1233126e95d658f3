"""SupCon: pull all views of one class together, push those of other classes away.

Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan 2020,
https://arxiv.org/abs/2004.11362 (section 3). Departures from the authors' code: the loss has no
factor temperature / 0.07, which the default optimizer makes up for; the warm-up starts at 0.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import l2_normalize

_BASE_TEMPERATURE = 0.07  # of the authors' code, which divides the gradient by it


@keras.saving.register_keras_serializable("keras_ssl")
class SupCon(SSLModel):
    """Contrast each view with all other views of its class, against the rest of the batch.

    With z = projector(backbone(view)) of the 2N views, s(i, j) = cosine(z_i, z_j) / temperature and
    P(i) the other views whose image has the label of i's (paper, equation 2),

        L = 1/(2N) sum_i ( log sum_{j != i} exp s(i, j) - 1/|P(i)| sum_{p in P(i)} s(i, p) ),

    log(2N - 1) when all embeddings coincide, and SimCLR's loss where all labels differ. Both views
    pass the networks as one batch, and the batch is the global one. It learns from labels: `fit`
    takes `(images, labels)`, or images that have them. A classifier is trained on the features
    afterwards.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to the space of the loss; by default Dense-ReLU-Dense
            of the features' width and 128, with biases.
        temperature: positive float; the paper's is 0.1.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].
        label: whole numbers `(batch,)`, the images' classes.

    Raises:
        ValueError: if `temperature` is not positive.
    """

    family = "contrastive, with labels"
    batch_keys = ("views", "label")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self, backbone, projector: keras.Layer | None = None, temperature: float = 0.1, **kwargs
    ):
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive. Received: temperature={temperature}."
            )
        self.backbone = backbones.adopt(backbone)
        width = self.backbone.feature_dim
        self.projector = projector or heads.plain_mlp(width, (width, 128))
        self.temperature = temperature

    def compute_losses(self, batch, training):
        """The supervised contrastive loss of the global batch."""
        z = heads.chain(
            ops.concatenate(batch["views"]), self.backbone, self.projector, training=training
        )
        # Gathered by view, so that the labels of the global batch, twice, are in the same order.
        halves = [distribute.all_gather(half) for half in ops.split(z, 2)]  # (global N, width) each
        labels = ops.tile(distribute.all_gather(batch["label"]), 2)  # (2 * global N,)
        loss = losses.supervised_contrastive(ops.concatenate(halves), labels, self.temperature)
        return {"loss": loss}

    def embed(self, images):
        """Unit-length projections of images in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """Two views as the authors' code makes them for CIFAR, and here for all sizes."""
        return views.supcon(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9, the authors' for CIFAR: rate 0.5 * batch / 1024 and L2 1e-4.

        Their loss, and so its gradient, is temperature / 0.07 times this one: the rate is so much
        larger here and the L2 so much smaller, which gives the same steps. Warmed up over 10 epochs
        (at most a tenth of the run), then a cosine to a thousandth.
        """
        factor = self.temperature / _BASE_TEMPERATURE
        peak = 0.5 * batch_size / 1024 * factor
        warmup = self.warmup_steps(total_steps)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=peak / 1000)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4 / factor)
