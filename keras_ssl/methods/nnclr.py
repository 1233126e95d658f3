"""NNCLR: the positive of a view is the nearest neighbour of its image among earlier images.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman 2021, https://arxiv.org/abs/2104.14548 (section 3).
There is no public code of the authors. Departures from the paper: linear layers have no biases; the
loss is not symmetrised over rows and columns.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, heads, queue
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class NNCLR(SSLModel):
    """Contrast one view's nearest neighbour in a queue with the other view.

    With unit vectors z_v = projector(backbone(view v)) and p_v = predictor(z_v), and nn_v the row
    of the queue nearest to z_v,

        L = 1/2 ( l(nn_1, p_2) + l(nn_2, p_1) ),
        l(a, b) = mean_i -log( exp(<a_i, b_i> / t) / sum_j exp(<a_i, b_j> / t) )

    over the global batch; log N when all predictions coincide. Neighbours carry no gradient, so the
    networks learn through the predictions alone. The queue holds z_1 of the latest batches, random
    at first, and takes this batch's after its neighbours are found. While the neighbours are random
    the loss stays near log N. Views pass the networks one after the other, each with statistics of
    its own.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to the space of the neighbours; by default Dense
            2048 (1024 below 64 px), the same, 256, each with batch normalisation, all but the last
            with ReLU.
        predictor: `keras.Model` from that space to itself; by default Dense 4096 (1024 below 64
            px), batch normalisation, ReLU, Dense 256.
        temperature: t, positive float; by default 0.1, and 0.2 below 64 px (solo-learn's for
            CIFAR-10).
        queue_size: rows of the queue; by default 98,304, and 65,536 below 64 px.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `temperature` or `queue_size` is not positive.
    """

    family = "contrastive"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=7e-4)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        predictor: keras.Layer | None = None,
        temperature: float | None = None,
        queue_size: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.projector = projector or _projector(self.backbone.feature_dim, 1024 if small else 2048)
        width = self.projector.output_shape[-1]
        self.predictor = predictor or heads.mlp(
            width,
            (1024 if small else 4096, width),
            output_norm=None,
            kernel_initializer="lecun_normal",
            name="predictor",
        )
        if temperature is None:
            temperature = 0.2 if small else 0.1
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive. Received: temperature={temperature}."
            )
        self.temperature = temperature
        self.queue_size = (65_536 if small else 98_304) if queue_size is None else queue_size
        self.queue = queue.Queue(self.queue_size, width, name="queue")

    def compute_losses(self, batch, training):
        """Both orders of the views against the queue; then the first views enter the queue."""
        embeddings, predictions = [], []
        for view in batch["views"]:
            z = heads.chain(view, self.backbone, self.projector, training=training)
            p = ops.cast(self.predictor(z, training=training), "float32")
            embeddings.append(distribute.all_gather(ops.stop_gradient(l2_normalize(z))))
            predictions.append(distribute.all_gather(p))
        neighbours = [self._nearest(z) for z in embeddings]
        there = losses.inter_view_nce(neighbours[0], predictions[1], self.temperature)
        back = losses.inter_view_nce(neighbours[1], predictions[0], self.temperature)
        if training:
            self.queue.enqueue(embeddings[0])
        return {"loss": (there + back) / 2}

    def embed(self, images):
        """Unit-length projections in inference mode: the space of the neighbours."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """BYOL's two views, of different strength."""
        return views.byol(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """LARS, warmed up over 10 epochs (at most a tenth of the run), then cosine to zero.

        Learning rate 0.3 * batch / 256, weight decay 1e-6 (paper).
        """
        peak = 0.3 * batch_size / 256
        schedule = optimizers.WarmupCosine(peak, total_steps, self.warmup_steps(total_steps))
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=1e-6)

    def _nearest(self, z):
        """The rows of the queue, as it is, that are most like the rows of `z`."""
        # Both are of unit length: the largest product is the nearest row.
        similarity = ops.matmul(z, ops.transpose(self.queue.keys))  # (N, queue size)
        nearest = ops.take(self.queue.keys, ops.argmax(similarity, axis=-1), axis=0)
        return ops.stop_gradient(nearest)


def _projector(width, hidden):
    head = heads.mlp(width, (hidden, hidden, 256), output_norm=None)
    return keras.Model(head.inputs, batch_norm(name="projector_bn3")(head.output), name="projector")
