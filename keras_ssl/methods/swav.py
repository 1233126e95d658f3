"""SwAV: predict the cluster of an image's other views, with clusters of equal size found online.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin 2020, https://arxiv.org/abs/2006.09882 (sections 3
and 4, appendix A). Departures from the authors' code: prototypes are normalised after each step in
the place of before it, and when they are made, so that every forward pass sees the same unit rows;
the queue holds the embeddings of all devices, the same on each, and not a part on each; while
prototypes are frozen they get a gradient of zero, which the normalisation makes the same as none;
below 64 px batch normalisation ends the projector, with which short runs learn more.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.queue import Queue
from keras_ssl.ops import is_small, l2_normalize, sinkhorn, usage_entropy


@keras.saving.register_keras_serializable("keras_ssl")
class SwAV(SSLModel):
    """Assign two views to prototypes evenly, and predict each assignment from all other views.

    With z_v = projector(backbone(view v)) of unit length, K prototypes c_k of unit length, scores
    s_v = <z_v, c> and codes q_v = sinkhorn(s_v) of the global batch for the views 0 and 1, which
    carry no gradient, the loss over V views is (paper, equations 1 to 3 and 6)

        L = 1/2 sum_{v in {0, 1}} 1/(V - 1) sum_{u != v} mean_i sum_k -q_v log softmax(s_u / t),

    log K when the scores do not tell prototypes apart. Views of one size pass the backbone as one
    batch, all views the projector. A queue of the embeddings of earlier batches, one for each of
    the two views, makes the codes of small batches (fewer images than prototypes) meaningful: they
    are computed with the queue's scores beside the batch's.

    Beside the loss, `prototype_entropy` is logged: how evenly the predictions softmax(s / t) of the
    two views use the prototypes, from 0 (one takes all) to 1. The codes would not show a collapse,
    as they are even by construction.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        projector: `keras.Model` from features to embeddings; by default Dense 2048, batch
            normalisation, ReLU, Dense 128; below 64 px, batch normalisation without gain and offset
            after that.
        num_prototypes: K, >= 2; by default 3000, and 64 below 64 px, where there is no queue.
        temperature: t, > 0; by default 0.1, and 0.2 below 64 px.
        epsilon: divides the scores of the codes, > 0; see `keras_ssl.ops.sinkhorn`.
        iterations: of Sinkhorn, >= 1.
        freeze_epochs: epochs at the start during which the prototypes stay as they are, a number
            >= 0; the authors' is 1.
        queue_size: embeddings of each queue; 0 for none. By default the authors' 3840, and none
            below 64 px. Batches of as many images or more go without, as the authors' of 4096.
        queue_start: epochs after which the queues begin to be filled, a number >= 0; they are used
            once they are full.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1], the
            two from which codes are made first.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "clustering"
    loss_names = ("loss", "prototype_entropy")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        num_prototypes: int | None = None,
        temperature: float | None = None,
        epsilon: float = 0.05,
        iterations: int = 3,
        freeze_epochs: float = 1,
        queue_size: int | None = None,
        queue_start: float = 15,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.projector = projector or heads.mlp(
            self.backbone.feature_dim,
            (2048, 128),
            output_norm="plain" if small else None,
            use_bias=True,
            kernel_initializer=heads.pytorch_uniform(),
        )
        if num_prototypes is None:
            num_prototypes = 64 if small else 3000
        if temperature is None:
            temperature = 0.2 if small else 0.1
        if queue_size is None:
            queue_size = 0 if small else 3840
        self.num_prototypes = num_prototypes
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.freeze_epochs = freeze_epochs
        self.queue_size, self.queue_start = queue_size, queue_start
        self._check()
        width = self.projector.output_shape[-1]
        self.prototypes = self.add_weight(
            shape=(num_prototypes, width),
            initializer=lambda shape, dtype: l2_normalize(keras.random.normal(shape, dtype=dtype)),
            name="prototypes",
        )
        self.queues = [Queue(queue_size, width, name=f"queue{v}") for v in range(2) if queue_size]

    def compute_losses(self, batch, training):
        """Swapped prediction on the global batch; then embeddings enter the queues."""
        z = ops.stack(self._project(batch["views"], training), axis=1)  # (batch, views, width)
        z = distribute.all_gather(z)
        frozen = ops.logical_not(self._has_passed(self.freeze_epochs))
        # Frozen by a zero gradient, so that one graph serves all steps.
        prototypes = ops.convert_to_tensor(self.prototypes)  # (K, width), unit rows
        prototypes = ops.where(frozen, ops.stop_gradient(prototypes), prototypes)
        scores = [ops.matmul(z[:, v], ops.transpose(prototypes)) for v in range(z.shape[1])]
        queues = self.queues if z.shape[0] < self.queue_size else []  # a large batch needs none
        codes = [self._codes(ops.stop_gradient(scores[v]), queues[v : v + 1]) for v in range(2)]
        if training:
            for v, queue in enumerate(queues):
                self._remember(queue, z[:, v])
        predictions = ops.softmax(ops.concatenate(scores[:2]) / self.temperature)
        return {
            "loss": losses.cross_view_cross_entropy(codes, scores, self.temperature),
            "prototype_entropy": usage_entropy(predictions),
        }

    def after_step(self):
        """Prototypes are put back to unit length."""
        self.prototypes.assign(l2_normalize(self.prototypes))

    def embed(self, images):
        """Unit-length projections in inference mode: what the prototypes are compared with."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def assign(self, images):
        """The nearest prototype."""
        scores = ops.matmul(self.embed(images), ops.transpose(self.prototypes))
        return ops.argmax(scores, axis=-1)

    def default_views(self, image_size):
        """Multi-crop: two large and six small views (section 3.3).

        Two of one size below 64 px, and for networks that take one size alone.
        """
        return views.swav(image_size, None if self.backbone.takes_any_size else (2, 0))

    def paper_optimizer(self, total_steps, batch_size):
        """LARC on SGD with momentum 0.9 and L2 1e-6, cosine to a thousandth of the rate.

        The authors' scripts: 0.6 without warm-up for batches of 256; 4.8 for 4096 (in proportion
        for others above 256), warmed up from a sixteenth of it over 10 epochs, a tenth of the run
        at most.
        """
        if batch_size <= 256:
            peak, warmup = 0.6 * batch_size / 256, 0
        else:
            peak, warmup = 4.8 * batch_size / 4096, self.warmup_steps(total_steps)
        schedule = keras.optimizers.schedules.CosineDecay(
            peak / 16 if warmup else peak,
            total_steps - warmup,
            1e-3,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
        return optimizers.LARC(schedule, momentum=0.9, weight_decay=1e-6)

    def _project(self, images, training):
        """Embeddings of every view, unit length; one call of the backbone for each size."""
        heads.check_views("SwAV", images, "swav")
        features = ops.concatenate(heads.chain_views(images, self.backbone, training=training))
        return ops.split(l2_normalize(self.projector(features, training=training)), len(images))

    def _codes(self, scores, queues):
        """Balanced assignments of the batch, with those of its view's queue once that is full."""
        own = lambda: sinkhorn(scores, self.epsilon, self.iterations)  # noqa: E731
        if not queues:
            return own()
        (queue,) = queues

        def with_queue():
            earlier = ops.matmul(queue.keys, ops.transpose(self.prototypes))
            both = ops.concatenate([earlier, scores])
            return sinkhorn(both, self.epsilon, self.iterations)[self.queue_size :]

        return ops.cond(queue.full, with_queue, own)

    def _has_passed(self, epochs):
        """Whether so many epochs are over; true where the length of an epoch is unknown."""
        steps = ops.round(epochs * ops.cast(self.steps_per_epoch, "float32"))
        return ops.greater_equal(ops.cast(self.step, "float32"), steps)

    def _remember(self, queue, z):
        """Put embeddings into a queue; those from before `queue_start` do not count."""
        # Rows are always written, which costs nothing beside the step; before `queue_start` the
        # count is put back to 0, so that the queue does not become full.
        queue.enqueue(z)
        counted = ops.cast(self._has_passed(self.queue_start), "int32")
        queue.count.assign(queue.count * counted)

    def _check(self):
        least = {
            "num_prototypes": 2,
            "iterations": 1,
            "freeze_epochs": 0,
            "queue_size": 0,
            "queue_start": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"`{name}` must be >= {low}. Received: {getattr(self, name)}.")
        for name in ("temperature", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {name}={getattr(self, name)}.")
