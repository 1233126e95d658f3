"""RotNet: predict by how many right angles an image was rotated.

Gidaris, Singh, Komodakis 2018, https://arxiv.org/abs/1803.07728 (section 3). Departures from the
authors' code: any backbone with global average pooling in the place of their network in network and
AlexNet; images are normalised by the backbone.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small


@keras.saving.register_keras_serializable("keras_ssl")
class RotNet(SSLModel):
    """Classify which of four rotations was applied to the image.

    With x_ik the image i turned by k right angles and h = head(backbone(x)) four logits, the loss
    is the mean cross-entropy over all rotations of all images (paper, equation 2),

        L = -1/(4B) sum_i sum_k log softmax(h(x_ik))_k,

    log 4 for a network that sees no orientation. The four rotations of all images pass the networks
    as one batch and share its statistics. The head is discarded; layers before the last often
    transfer better.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        head: `keras.Model` from features to four logits; by default one Dense layer.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of four float tensors `(batch, height, width, channels)` in [0, 1], square.
        rotations: int32 `(batch, 4)`, the right angles by which each view is turned, 0 to 3.

    Raises:
        ValueError: if the head does not give four logits.
    """

    family = "pretext task"
    loss_names = ("loss", "accuracy")
    batch_keys = ("views", "rotations")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(self, backbone, head: keras.Layer | None = None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.head = head or heads.mlp(
            self.backbone.feature_dim,
            (4,),
            output_norm=None,
            use_bias=True,
            kernel_initializer="glorot_uniform",
            name="head",
        )
        heads.check_output("head", self.head, (4,), "End it with Dense(4), a logit a rotation.")

    def compute_losses(self, batch, training):
        """Cross-entropy and accuracy over the rotations of the global batch."""
        images = ops.concatenate(batch["views"])
        logits = heads.chain(images, self.backbone, self.head, training=training)
        logits = distribute.all_gather(ops.cast(logits, "float32"))  # (4 * global batch, 4)
        labels = ops.reshape(ops.transpose(batch["rotations"]), (-1,))  # one view after the other
        # Replicas gather both in the same order, so a logit still meets its label.
        labels = distribute.all_gather(ops.cast(labels, "int32"))
        entropies = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        correct = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
        return {"loss": ops.mean(entropies), "accuracy": ops.mean(ops.cast(correct, "float32"))}

    def default_views(self, image_size):
        """Random crop and flip, then the four rotations (section 3)."""
        return views.rotnet(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """The authors' SGD with Nesterov's momentum 0.9 and L2 5e-4; it ignores `batch_size`.

        Below 64 px (CIFAR-10, 128 images or 512 rows a batch): learning rate 0.1, and from 30, 60
        and 80 % of the run on 0.02, 0.004 and 0.0008 (epochs 60, 120 and 160 of 200). Above
        (ImageNet, 192 images): 0.01, and from 30, 60 and 90 % on a tenth each (epochs 15, 30 and 45
        of 50).
        """
        if is_small(self.image_shape):
            shares, rates = (0.3, 0.6, 0.8), [0.1, 0.02, 0.004, 0.0008]
        else:
            shares, rates = (0.3, 0.6, 0.9), [1e-2, 1e-3, 1e-4, 1e-5]
        # Keras changes the rate after a boundary, the authors at it.
        drops = [int(share * total_steps) - 1 for share in shares]  # last step at a rate
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(drops, rates)
        return optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4)
