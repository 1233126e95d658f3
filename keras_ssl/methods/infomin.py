"""InfoMin: MoCo with views that share little but what the task needs, and a jigsaw.

Tian, Sun, Poole, Krishnan, Schmid, Isola 2020, https://arxiv.org/abs/2005.10243 (section 5), and
the authors' code, PyContrast, for the networks and numbers. Departures from the authors' code:
shuffled batch normalisation is one function of the global batch, whatever the number of devices;
settings below 64 px are our own, after MoCo's.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads, norm, queue
from keras_ssl.layers.shuffle import allowed_groups, group_count, shuffled
from keras_ssl.ops import is_small, l2_normalize
from keras_ssl.views import jigsaw


@keras.saving.register_keras_serializable("keras_ssl")
class InfoMin(SSLModel):
    """Contrast an image's query, and the query of its jigsaw, with the key of another view.

    With q = f(view 1), w = g(patches of the image in random order), k = f'(view 2) of unit length,
    f' being the moving average of f, and Q the K keys of the latest batches,

        L = (1 - weight) c(q) + weight c(w),
        c(z) = mean_i -log( exp(z_i k_i / t) / (exp(z_i k_i / t) + sum_j exp(z_i Q_j / t)) ).

    Keys enter the queue after the loss has read it; f' moves after each optimizer step. Patches
    have batch statistics of their own. Queries and keys share none: see `keras_ssl.layers.shuffle`.
    The method is MoCo v2 (paper, section 5) with stronger views, `keras_ssl.views.infomin`, and
    PIRL's jigsaw; how much two views share is what `keras_ssl.evaluation.shared_information`
    estimates.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted; it
            must take images of the patches' size, too.
        projector: `keras.Model` from features to the space of the loss; by default
            Dense-ReLU-Dense of the features' width and 128, with biases.
        jigsaw_projector: `keras.Model` from the features of all patches, `(batch, patches,
            features)`, to the same space; by default a projector as above that they share, and a
            Dense layer from all of them side by side.
        grid: cells a side of the jigsaw, `grid * grid` patches; by default 3, and 2 below 64 px. 0
            for no jigsaw.
        weight: weight of the jigsaw's term, beta of the authors' code, in [0, 1].
        temperature: t, > 0.
        queue_size: K; by default 65,536, and 4,096 below 64 px.
        momentum: share of f' kept at each step, in [0, 1].
        groups: as of `keras_ssl.MoCo`.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of float tensors in [0, 1]: query and key `(batch, height, width, channels)`,
            then the patches, `(batch, patch height, patch width, channels)`.

    Raises:
        ValueError: if a number is outside its range, or the projectors differ in width.
    """

    family = "contrastive"
    loss_names = ("loss", "image_loss", "jigsaw_loss")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=1e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        jigsaw_projector: keras.Layer | None = None,
        grid: int | None = None,
        weight: float = 0.5,
        temperature: float = 0.15,
        queue_size: int | None = None,
        momentum: float = 0.999,
        groups: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small, width = is_small(self.image_shape), self.backbone.feature_dim
        self.grid = jigsaw.default_grid(self.image_shape) if grid is None else grid
        self.weight, self.temperature = weight, temperature
        self.queue_size = (4096 if small else 65_536) if queue_size is None else queue_size
        self.momentum = momentum
        self._check()
        self.projector = projector or heads.plain_mlp(width, (width, 128))
        out = self.projector.output_shape[-1]
        if jigsaw_projector is None and self.grid:
            jigsaw_projector = _jigsaw_head(width, self.grid**2, out)
        if jigsaw_projector is not None and jigsaw_projector.output_shape[-1] != out:
            raise ValueError(
                "`projector` and `jigsaw_projector` must be of one width. Received: "
                f"{out} and {jigsaw_projector.output_shape[-1]}."
            )
        self.jigsaw_projector = jigsaw_projector
        self.groups = groups
        self._groups = allowed_groups((self.backbone, self.projector), groups)
        self.key_backbone = ema.make_teacher(self.backbone)
        self.key_projector = ema.make_teacher(self.projector)
        self.queue = queue.Queue(self.queue_size, out, name="queue")

    def compute_losses(self, batch, training):
        """Both terms of the global batch against the queue; then the keys enter the queue."""
        view1, view2, *patches = batch["views"]
        self._check_patches(patches)
        groups = group_count(view1.shape[0] * distribute.num_replicas(), self._groups)
        with norm.grouped(groups):
            query = heads.chain(view1, self.backbone, self.projector, training=training)
            jigsaw_query = self._jigsaw_query(patches, training) if self.grid else None
        key = shuffled(lambda x: self._key(x, training), view2, groups, self.draw_key)
        key = ops.stop_gradient(key)
        image_loss = self._contrast(query, key)
        jigsaw_loss = self._contrast(jigsaw_query, key) if self.grid else ops.zeros(())
        if training:
            self.queue.enqueue(key)
        weight = self.weight if self.grid else 0.0
        loss = (1.0 - weight) * image_loss + weight * jigsaw_loss
        return {"loss": loss, "image_loss": image_loss, "jigsaw_loss": jigsaw_loss}

    def after_step(self):
        """The key encoder follows the query encoder."""
        ema.update(self.key_backbone, self.backbone, self.momentum)
        ema.update(self.key_projector, self.projector, self.momentum)

    def embed(self, images):
        """Unit-length queries of images in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """Query and key of the paper's strong set, and the patches."""
        return views.infomin(image_size, self.grid)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 in the gradient, cosine to a thousandth of the rate.

        Learning rate 0.03 * batch / 256 and L2 1e-4; below 64 px MoCo's, 0.06 * batch / 512 and
        5e-4.
        """
        small = is_small(self.image_shape)
        rate = 0.06 * batch_size / 512 if small else 0.03 * batch_size / 256
        schedule = keras.optimizers.schedules.CosineDecay(rate, total_steps, alpha=1e-3)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=5e-4 if small else 1e-4)

    def _jigsaw_query(self, patches, training):
        """One query for the patches of each image; an image's patches stay in one group."""
        stacked = ops.stack(patches, axis=1)  # (B, P, h, w, C)
        images = ops.reshape(stacked, (-1, *stacked.shape[2:]))  # groups cut between images
        features = self.backbone(images, training=training)
        features = ops.reshape(features, (-1, len(patches), features.shape[-1]))
        return self.jigsaw_projector(features, training=training)

    def _key(self, images, training):
        """Unit-length keys of images of this replica."""
        return l2_normalize(
            heads.chain(images, self.key_backbone, self.key_projector, training=training)
        )

    def _contrast(self, query, key):
        query = distribute.all_gather(ops.cast(query, "float32"))
        return losses.info_nce(query, key, self.queue.keys, temperature=self.temperature)

    def _check(self):
        if self.grid < 0 or not 0 <= self.weight <= 1:
            raise ValueError(
                "`grid` must be >= 0 and `weight` in [0, 1]. Received: "
                f"grid={self.grid}, weight={self.weight}."
            )
        if not self.temperature > 0 or not 0 <= self.momentum <= 1:
            raise ValueError(
                "`temperature` must be positive and `momentum` in [0, 1]. Received: "
                f"temperature={self.temperature}, momentum={self.momentum}."
            )

    def _check_patches(self, patches):
        if len(patches) != self.grid**2:
            raise ValueError(
                f"InfoMin's views must be query, key and {self.grid**2} patches, as grid="
                f"{self.grid} says. Received: {len(patches)} patches. Make the batch with "
                f"`keras_ssl.views.infomin(image_size, grid={self.grid})`."
            )


def _jigsaw_head(width, patches, dim):
    """A projector that the patches share, then a Dense layer from all of them side by side."""
    x = features = keras.Input((patches, width), name="patches")
    x = keras.layers.Dense(width, name="jigsaw_projector_dense1")(x)
    x = keras.layers.ReLU(name="jigsaw_projector_relu1")(x)
    x = keras.layers.Dense(dim, name="jigsaw_projector_dense2")(x)
    x = keras.layers.Flatten(name="jigsaw_projector_flatten")(x)
    x = keras.layers.Dense(dim, name="jigsaw_projector_dense3")(x)
    return keras.Model(features, x, name="jigsaw_projector")
