"""Auxiliary: learn to classify, with the loss of any self-supervised method beside it.

Gidaris, Bursuc, Komodakis, Perez, Cord 2019, https://arxiv.org/abs/1906.05186 (section 3), with
cross-entropy as their classification loss, all labels known; Zhai, Oliver, Kolesnikov, Beyer 2019
(S4L), https://arxiv.org/abs/1905.03670 (section 3), with few labels. Departures from the authors'
code: the classifier has a view of its own, which passes the backbone by itself (theirs sees images
of the rotation task, upright or in all four rotations, in one batch with it); labelled and
unlabelled images come in one batch, as they are mixed in the data, and count alike in the method's
loss (S4L's: a batch of each, whose means have equal weights).
"""

import math
import numbers

import keras
from keras import ops

from keras_ssl import distribute, losses, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads


@keras.saving.register_keras_serializable("keras_ssl")
class Auxiliary(SSLModel):
    """Minimise the cross-entropy of labels plus a self-supervised loss, on one backbone.

    With h = classifier(backbone(view)) the logits of a view that is cropped and flipped, A the
    images of the global batch that have a label, y_i >= 0, and L_method the method's own loss, on
    its own views of all images,

        L = -1/|A| sum_{i in A} log softmax(h_i)_{y_i}  +  weight * L_method.

    The first term is 0 where no image has a label. Images without one have the label -1; they
    count in the method's loss, and in the batch statistics of both. The method's state (teacher,
    queue, memory bank) lives as when it is trained alone, by the same clock, and so does what it
    does between epochs. The classifier's view and the method's pass the backbone one after the
    other: each is normalised by its own statistics, and running statistics, with which `encode` and
    `logits` work, follow both.

    A weight that is always 0 leaves the method out: it is not computed, nothing of it moves, and
    training is the supervised one, bit for bit. A weight that only passes through 0 does not: the
    method's networks still run, so that its state and running statistics move.

    What is logged is the mean over batches, those without any label (0) included. The method
    becomes a part of this model: train it no more by itself.

    Args:
        classifier: number of classes, for one Dense layer with biases; or a layer or `keras.Model`
            from features to logits.
        method: the method, an `SSLModel` with one loss and one optimizer; its backbone is that of
            the classifier, too. `create` and `pretrain` also take its name, for its defaults. One
            that reads labels itself, such as SupCon, needs those of all images.
        weight: of the method's loss, >= 0; 1 in the code of both papers. Two numbers for a weight
            that goes from the first to the second, linearly in the share of the run that is done;
            outside `fit`, where that is unknown, it is the first.
        **kwargs: as `keras.Model`.

    Batch:
        supervised: the classifier's view, float `(batch, height, width, channels)` in [0, 1].
        label: whole numbers `(batch,)`, the images' classes; -1 where unknown.
        and the keys that the method reads.

    Raises:
        ValueError: if the method is none, has several players or is itself an `Auxiliary`, the
            classifier does not fit the features, or a weight is negative.

    Example:
        >>> backbone = keras_ssl.backbones.resnet18((32, 32, 3))
        >>> model = keras_ssl.Auxiliary(10, keras_ssl.RotNet(backbone))
        >>> model.fit(images, labels, epochs=100)  # label -1: an image without one
        >>> classes = model.logits(images[:8]).numpy().argmax(axis=1)
    """

    family = "multi-task"
    loss_names = ("loss", "supervised", "auxiliary", "accuracy")

    def __init__(
        self,
        classifier: int | keras.Layer,
        method: keras.Layer | str,
        weight: float | tuple[float, float] = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_method(method)
        self.method, self.weight = method, _checked_weight(weight)
        self.share_clock(method)
        self.classifier, self.num_classes = _network(classifier, self.backbone.feature_dim)
        # What the frame asks the method for, and finds here.
        self.batch_keys = ("supervised", *dict.fromkeys(("label", *method.batch_keys)))
        self.num_images, self.short_run = method.num_images, method.short_run
        self.half_precision = method.half_precision

    @property
    def backbone(self):
        """The method's backbone."""
        return self.method.backbone

    @property
    def left_out(self):
        """Whether the weight is always 0, and the method without a part in training."""
        return max(_pair(self.weight)) == 0

    def compute_losses(self, batch, training):
        """Both terms, their weighted sum, and the accuracy on the labelled images of the batch."""
        logits = distribute.all_gather(self._logits(batch["supervised"], training))
        labels = distribute.all_gather(ops.cast(batch["label"], "int32"))  # (global batch,)
        supervised = losses.labelled_cross_entropy(logits, labels)
        correct = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
        known = ops.sum(ops.cast(ops.greater_equal(labels, 0), "float32"))
        result = {
            "loss": supervised,
            "supervised": supervised,
            "auxiliary": ops.zeros_like(supervised),
            "accuracy": ops.sum(ops.cast(correct, "float32")) / ops.maximum(known, 1.0),
        }
        if self.left_out:
            return result
        auxiliary = self.method.compute_losses(batch, training)["loss"]  # of the global batch, too
        return {**result, "loss": supervised + self._weight() * auxiliary, "auxiliary": auxiliary}

    def begin_epoch(self, source):
        """What the method does between epochs."""
        self.method.begin_epoch(source)

    def after_step(self):
        """The method's state follows the weights."""
        if not self.left_out:
            self.method.after_step()

    def logits(self, images):
        """The classifier's logits in inference mode, float32 `(batch, classes)`."""
        return self._logits(images, False)

    def encode(self, images):
        """The method's frozen features."""
        return self.method.encode(images)

    def embed(self, images):
        """The method's projections, if it has them; so for the hooks below."""
        return self.method.embed(images)

    def assign(self, images):
        """The method's clusters."""
        return self.method.assign(images)

    def reconstruct(self, images):
        """The method's reconstructions."""
        return self.method.reconstruct(images)

    def mask(self, images):
        """What the method's reconstructions see."""
        return self.method.mask(images)

    def sample(self, count, seed=0):
        """Images drawn from the method."""
        return self.method.sample(count, seed)

    def log_prob(self, images, seed=0):
        """The method's likelihoods."""
        return self.method.log_prob(images, seed)

    def interpolate(self, first, second, steps):
        """The method's interpolations."""
        return self.method.interpolate(first, second, steps)

    def can(self, hook):
        """Whether the method has an optional hook; `begin_epoch` only where it is not left out."""
        super().can(hook)  # raises for what is no hook
        return self.method.can(hook) and not (hook == "begin_epoch" and self.left_out)

    def default_views(self, image_size):
        """The method's views, and one that is cropped and flipped, for the classifier."""
        own = views.supervised(image_size).view
        return views.WithView(self.method.default_views(image_size), own, "supervised")

    def paper_optimizer(self, total_steps, batch_size):
        """The method's."""
        return self.method.paper_optimizer(total_steps, batch_size)

    def default_optimizer(self, total_steps, batch_size):
        """The method's."""
        return self.method.default_optimizer(total_steps, batch_size)

    @property
    def queue_size(self):
        """Size of the method's queues, which `fit` may cut to the size of the data."""
        return self.method.queue_size

    @queue_size.setter
    def queue_size(self, size):
        self.method.queue_size = size

    @property
    def trainable_variables(self):
        """Those that the loss reaches: without the method, the backbone's and the classifier's."""
        if not self.left_out:
            return super().trainable_variables
        return [*self.backbone.trainable_variables, *self.classifier.trainable_variables]

    @property
    def non_trainable_variables(self):
        """All others."""
        trained = {id(v) for v in self.trainable_variables}
        return [v for v in self.variables if id(v) not in trained]

    def _logits(self, images, training):
        logits = heads.chain(images, self.backbone, self.classifier, training=training)
        return ops.cast(logits, "float32")

    def _weight(self):
        """The weight at this step: a number, or a tensor where it changes."""
        first, last = _pair(self.weight)
        return first if first == last else first + (last - first) * self.progress


def _pair(weight):
    """First and last weight of the run."""
    return (weight, weight) if isinstance(weight, numbers.Real) else tuple(weight)


def _checked_weight(weight):
    """`weight` as a number or a tuple of two."""
    pair = _pair(weight)
    if len(pair) != 2 or not all(0 <= w < math.inf for w in pair):
        raise ValueError(
            "`weight` must be a number >= 0, or two: that of the first and that of the last step. "
            f"Received: weight={weight}."
        )
    return weight if isinstance(weight, numbers.Real) else pair


def _check_method(method):
    """Raise unless `method` has one loss that can be added to another."""
    if not isinstance(method, SSLModel):
        received = repr(method) if isinstance(method, str) else type(method).__name__
        raise ValueError(
            f"`method` must be a method of keras_ssl. Received: {received}. Pass an object such as "
            "keras_ssl.RotNet(backbone); names are for keras_ssl.create and pretrain."
        )
    name = type(method).__name__
    if isinstance(method, Auxiliary):
        raise ValueError(
            "`method` must not have a classifier of its own. Received: an Auxiliary. Pass the "
            "method inside it, `model.method`."
        )
    if method.players or type(method).update is not SSLModel.update:
        what = f"players {list(method.players)}" if method.players else "an `update` of its own"
        raise ValueError(
            "`method` must have one loss and one optimizer, so that the loss can be added to "
            f"another. Received: {name}, with {what}. Take another, such as RotNet or SimCLR."
        )


def _network(classifier, width):
    """The classifier as a model from features to logits, and the number of its classes."""
    if isinstance(classifier, numbers.Integral):
        if classifier < 2:
            raise ValueError(
                f"`classifier` must be at least 2 classes. Received: classifier={classifier}."
            )
        start = {"use_bias": True, "kernel_initializer": "glorot_uniform"}
        classes = int(classifier)
        return heads.mlp(width, (classes,), output_norm=None, name="classifier", **start), classes
    rule = f"`classifier` must make a row of logits of the backbone's {width} features. Received: "
    if not isinstance(classifier, keras.Layer):
        raise ValueError(f"{rule}{classifier!r}. Pass the number of classes, or a Keras layer.")
    features = keras.Input((width,), name="features")
    try:
        logits = classifier(features)
    except Exception as error:  # whatever a layer for inputs of another form raises
        raise ValueError(f"{rule}'{classifier.name}', which takes others: {error}") from error
    if len(logits.shape) != 2:
        raise ValueError(f"{rule}'{classifier.name}', which makes {tuple(logits.shape[1:])}.")
    if not isinstance(classifier, keras.Model):
        classifier = keras.Model(features, logits, name="classifier")
    return classifier, logits.shape[-1]
