"""MoCo: pick the key of an image's other view out of a queue of keys of earlier images.

He, Fan, Wu, Xie, Girshick 2020, https://arxiv.org/abs/1911.05722 (v1: algorithm 1, section 3), and
Chen, Fan, Girshick, He 2020, https://arxiv.org/abs/2003.04297 (v2: head, blur, temperature, cosine
schedule). Departures from the authors' code: shuffled batch normalisation is one function of the
global batch, whatever the number of devices (below).
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads, norm, queue
from keras_ssl.layers.shuffle import allowed_groups, group_count, shuffled
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class MoCo(SSLModel):
    """Contrast the query of one view with its key and a queue of keys, all by a slow encoder.

    With q = f(view 1) and k = g(view 2) of unit length, g being the moving average of f, and Q the
    K keys of the latest batches, the loss is (v1, equation 1)

        L = mean_i -log( exp(q_i k_i / t) / (exp(q_i k_i / t) + sum_j exp(q_i Q_j / t)) ),

    log(1 + K) when all coincide. Keys enter the queue after the loss has read it, so an image is
    never its own negative. g moves after each optimizer step, which is the authors' update before
    each forward pass: at the first step both are equal.

    Shuffled batch normalisation (v1, section 3.3): statistics are those of groups of the batch, and
    the keys' batch is permuted before, so that a query and its key share no statistics that would
    give the answer away; see `keras_ssl.layers.shuffle`.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to the space of the loss; by default Dense 128 (v1,
            and below 64 px, as in the authors' CIFAR-10 demo) or Dense-ReLU-Dense of the features'
            width and 128 (v2), with biases.
        temperature: positive float; by default 0.07 (v1) or 0.2 (v2), and 0.1 below 64 px (the
            authors' CIFAR-10 demo).
        queue_size: K; by default 65,536, and 4,096 below 64 px.
        momentum: share of g kept at each step; by default 0.999, and 0.99 below 64 px.
        groups: most groups of the batch with statistics of their own; by default up to 8, of at
            least 8 images where the batch allows it (`keras_ssl.layers.shuffle.group_count`); 1
            takes statistics of the whole batch and shuffles nothing.
        version: 1 or 2, which chooses head, temperature and views.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1]: query, key.

    Raises:
        ValueError: for an argument outside its range, or `groups` with a network whose batch
            normalisation is not this library's.
    """

    family = "contrastive"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        temperature: float | None = None,
        queue_size: int | None = None,
        momentum: float | None = None,
        groups: int | None = None,
        version: int = 2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if version not in (1, 2):
            raise ValueError(f"`version` must be 1 or 2. Received: version={version}.")
        self.version = version
        self.backbone = backbones.adopt(backbone)
        small, width = is_small(self.image_shape), self.backbone.feature_dim
        self.projector = projector or heads.plain_mlp(
            width, (128,) if version == 1 or small else (width, 128)
        )
        given = {"temperature": temperature, "queue_size": queue_size, "momentum": momentum}
        default = {"temperature": 0.1, "queue_size": 4096, "momentum": 0.99}
        if not small:
            default = {"temperature": 0.07 if version == 1 else 0.2}
            default |= {"queue_size": 65_536, "momentum": 0.999}
        for name, value in given.items():
            setattr(self, name, default[name] if value is None else value)
        self._check()
        self.groups = groups
        self._groups = allowed_groups((self.backbone, self.projector), groups)
        self.key_backbone = ema.make_teacher(self.backbone)
        self.key_projector = ema.make_teacher(self.projector)
        self.queue = queue.Queue(self.queue_size, self.projector.output_shape[-1], name="queue")

    def compute_losses(self, batch, training):
        """InfoNCE of the global batch against the queue; then the keys enter the queue."""
        view1, view2 = batch["views"]
        groups = group_count(view1.shape[0] * distribute.num_replicas(), self._groups)
        with norm.grouped(groups):
            query = heads.chain(view1, self.backbone, self.projector, training=training)
        query = distribute.all_gather(ops.cast(query, "float32"))  # (global N, width)
        key = shuffled(lambda x: self._key(x, training), view2, groups, self.draw_key)
        key = ops.stop_gradient(key)
        loss = losses.info_nce(query, key, self.queue.keys, temperature=self.temperature)
        if training:  # after the loss: an image is no negative of itself
            self.queue.enqueue(key)
        return {"loss": loss}

    def after_step(self):
        """The key encoder follows the query encoder."""
        ema.update(self.key_backbone, self.backbone, self.momentum)
        ema.update(self.key_projector, self.projector, self.momentum)

    def embed(self, images):
        """Unit-length queries of images in inference mode: the space in which the loss compares."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """The two views of v1 (section 3.3) or v2 (section 3)."""
        return views.moco(image_size, version=self.version)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 in the gradient; learning rate 0.03 * batch / 256.

        v2 lets it fall along half a cosine, v1 to a tenth at 60 and at 80 % of the run. Below 64 px
        the settings of the authors' CIFAR-10 demo: 0.06 * batch / 512, cosine, L2 5e-4.
        """
        small = is_small(self.image_shape)
        rate = 0.06 * batch_size / 512 if small else 0.03 * batch_size / 256
        schedule = optimizers.WarmupCosine(rate, total_steps)
        if self.version == 1 and not small:
            drops = [int(0.6 * total_steps), int(0.8 * total_steps)]
            rates = [rate, rate / 10, rate / 100]
            schedule = keras.optimizers.schedules.PiecewiseConstantDecay(drops, rates)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=5e-4 if small else 1e-4)

    def _key(self, images, training):
        """Unit-length keys of images of this replica."""
        return l2_normalize(
            heads.chain(images, self.key_backbone, self.key_projector, training=training)
        )

    def _check(self):
        if not self.temperature > 0 or not 0 <= self.momentum <= 1:
            raise ValueError(
                "`temperature` must be positive and `momentum` in [0, 1]. Received: "
                f"temperature={self.temperature}, momentum={self.momentum}."
            )
