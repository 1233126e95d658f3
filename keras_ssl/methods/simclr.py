"""SimCLR: pull two views of an image together, push all other images of the batch away.

Chen, Kornblith, Norouzi, Hinton 2020, https://arxiv.org/abs/2002.05709 (v1: Algorithm 1, sections 2
and 3), and Chen, Kornblith, Swersky, Norouzi, Hinton 2020, https://arxiv.org/abs/2006.10029 (v2:
deeper head, fine-tuned from its middle; sections 2 and 3.1). Departures from the authors' code: the
loss is the paper's mean over the 2N views. Theirs is twice that; LARS cancels the factor for
weights, but for their decay, and not for the variables that it leaves to plain SGD (biases, batch
normalisation), which move twice as far there. The queue of negatives with which v2 gains about a
point is not in their code either.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small


@keras.saving.register_keras_serializable("keras_ssl")
class SimCLR(SSLModel):
    """Contrast the two views of each image with the 2N - 2 other views of the batch.

    With z = projector(backbone(view)) of 2N views, s(i, j) = cosine(z_i, z_j) / temperature and
    p(i) the other view of i's image, the loss is NT-Xent (paper, equation 1),

        L = 1/(2N) sum_i ( -s(i, p(i)) + log sum_{j != i} exp s(i, j) ),

    log(2N - 1) when all embeddings coincide. Both views pass the networks as one batch, so they
    share batch statistics, and the batch is the global one: embeddings and statistics of all
    replicas.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
            The authors' ResNets start residual blocks as identities: `zero_init_residual=True`.
        projector: `keras.Model` from features to the space of the loss; by default the authors'
            head, Dense-BatchNorm-ReLU of the features' width, once (v1) or twice (v2), then
            Dense-BatchNorm of width 128.
        temperature: positive float; by default 0.1 (ImageNet, both versions), and 0.2 below 64 px,
            which serves short runs; the paper's for CIFAR-10 is 0.5 (appendix B.9).
        version: 1 or 2, which chooses head, learning rate and warm-up.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive, `version` is neither 1 nor 2, or the backbone
            cannot be adopted.
    """

    family = "contrastive"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        temperature: float | None = None,
        version: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if version not in (1, 2):
            raise ValueError(f"`version` must be 1 or 2. Received: version={version}.")
        self.version = version
        self.backbone = backbones.adopt(backbone)
        width = self.backbone.feature_dim
        self.projector = projector or heads.mlp(width, (*[width] * version, 128))
        if temperature is None:
            temperature = 0.2 if is_small(self.image_shape) else 0.1
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive. Received: temperature={temperature}."
            )
        self.temperature = temperature

    def compute_losses(self, batch, training):
        """NT-Xent of the global batch."""
        view1, view2 = batch["views"]
        # Both views as one batch: they share batch statistics, as in the authors' code.
        z = heads.chain(
            ops.concatenate([view1, view2]), self.backbone, self.projector, training=training
        )
        z1, z2 = (distribute.all_gather(half) for half in ops.split(z, 2))  # (global N, width) each
        return {"loss": losses.nt_xent(z1, z2, temperature=self.temperature)}

    def embed(self, images):
        """Projections of images in inference mode: the space in which the loss compares."""
        return ops.cast(heads.chain(images, self.backbone, self.projector), "float32")

    def encoder(self, head_layers=1):
        """Backbone and first layers of the head as a plain model, to be fine-tuned on few labels.

        Put a Dense layer with zero kernel on it and train the whole with `compile` and `fit`. v2
        (sections 2 and 3.1) keeps one layer of the head for 1 and 10 % of ImageNet's labels, none
        for all. Weights are shared: training moves this method's own networks.

        Args:
            head_layers: hidden layers of the head to keep, each with its normalisation and ReLU;
                0 for the backbone alone.

        Returns:
            Functional model from images `(B, H, W, C)`, float in [0, 1], to features `(B, D)`.

        Raises:
            ValueError: if the head has not so many hidden layers.
        """
        images = keras.Input(self.image_shape, name="images")
        features = self.backbone(images)
        head = heads.first_layers(self.projector, head_layers)
        return keras.Model(images, head(features) if head_layers else features, name="encoder")

    def default_views(self, image_size):
        """Crop, flip, colour jitter, grey (and blur above 64 px): section 3 and appendix A."""
        return views.simclr(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """LARS with momentum 0.9 and weight decay 1e-4, warmed up, then cosine to zero.

        Learning rate: 0.075 * sqrt(batch) (v1, appendix B.1: for small batches and short training)
        or 0.1 * sqrt(batch) (v2, section 3.1); below 64 px 2 * sqrt(batch / 512), which at 512
        images is that of the authors' command for CIFAR-10. Warm-up: 10 epochs, at most a tenth of
        the run, or (v2) a twentieth of the run. The weight decay is that of v2 and of the authors'
        README, for either version; v1's paper has 1e-6.
        """
        rate = 0.075 if self.version == 1 else 0.1
        peak = (2 / math.sqrt(512) if is_small(self.image_shape) else rate) * math.sqrt(batch_size)
        warmup = self.warmup_steps(total_steps) if self.version == 1 else total_steps // 20
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup_steps=warmup)
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=1e-4, velocity="update")
