"""Small networks, methods and data for tests of the frame."""

import keras
import numpy as np
from keras import ops

from keras_ssl import distribute, views
from keras_ssl.backbones import Backbone
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, ema
from keras_ssl.ops import to_unit_range


def tiny_backbone(shape=(8, 8, 3), width=8, name="tiny"):
    """Two convolutions with batch normalisation; 8 features."""
    inputs = keras.Input((None, None, shape[-1]))
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(batch_norm()(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(batch_norm()(x))
    return Backbone(keras.Model(inputs, x), image_shape=shape, name=name)


def images(n=32, shape=(8, 8, 3), seed=0, dtype="uint8"):
    """Noise images that differ from one another."""
    noise = np.random.default_rng(seed).random((n, *shape))
    return (noise * 255).astype("uint8") if dtype == "uint8" else noise.astype(dtype)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class Follower(SSLModel):
    """A teacher-student toy: the student regresses the teacher's features of the other view."""

    def __init__(self, backbone, decay=0.9, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.decay = backbone, decay
        self.teacher = ema.make_teacher(backbone)

    def compute_losses(self, batch, training):
        view1, view2 = batch["views"]
        student = ops.cast(self.backbone(view1, training=training), "float32")
        teacher = ops.cast(self.teacher(view2, training=training), "float32")
        student, teacher = map(distribute.all_gather, (student, ops.stop_gradient(teacher)))
        return {"loss": ops.mean((student - teacher - 1.0) ** 2)}

    def after_step(self):
        ema.update(self.teacher, self.backbone, self.decay)

    def default_views(self, image_size):
        return views.simclr(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        return keras.optimizers.SGD(0.02, momentum=0.9)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class Memory(SSLModel):
    """State of each image: a bank that keeps the mean pixel of every image, by its index."""

    batch_keys = ("views", "index")

    def __init__(self, backbone, images=48, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.images = backbone, images
        self.bank = self.add_weight(
            shape=(images, 3), trainable=False, initializer="zeros", aggregation="none"
        )

    def compute_losses(self, batch, training):
        (view,) = batch["views"]
        index, pixels = (
            distribute.all_gather(x) for x in (batch["index"], ops.mean(view, axis=(1, 2)))
        )
        distance = ops.mean((ops.take(self.bank, index, axis=0) - pixels) ** 2)
        if training:
            distribute.write_rows(self.bank, index, pixels)
        features = distribute.all_gather(self.backbone(view, training=training))
        return {"loss": distance + ops.mean((features - 1.0) ** 2)}

    def default_views(self, image_size):
        return views.plain(image_size, flip=False)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class TwoPlayers(Follower):
    """A game beside a teacher: a critic tells views apart, the backbone hides which is which."""

    def __init__(self, backbone, critic=None, **kwargs):
        super().__init__(backbone, **kwargs)
        self.critic = critic or keras.Sequential(
            [keras.Input((backbone.feature_dim,)), keras.layers.Dense(1)]
        )

    @property
    def players(self):
        return {
            "critic": self.critic.trainable_variables,
            "backbone": self.backbone.trainable_variables,
        }

    def compute_losses(self, batch, training):
        followed = super().compute_losses(batch, training)["loss"]
        return {"loss": followed - 0.1 * self.critic_loss(batch, training)["loss"]}

    def update(self, batch):
        self.minimize(
            lambda: self.critic_loss(batch, True),
            self.players["critic"],
            self.optimizer_of("critic"),
        )
        return self.minimize(
            lambda: self.compute_losses(batch, True),
            self.players["backbone"],
            self.optimizer_of("backbone"),
        )

    def critic_loss(self, batch, training):
        scores = [self.critic(self.backbone(view, training=training)) for view in batch["views"]]
        scores = [distribute.all_gather(ops.cast(s, "float32")) for s in scores]
        return {"loss": ops.mean(scores[1] ** 2 - scores[0])}


@keras.saving.register_keras_serializable("keras_ssl_tests")
class Clusters(SSLModel):
    """Work between epochs: every epoch sorts all images by a score of their features into classes.

    The head then learns the classes, as DeepCluster does with those of k-means.
    """

    batch_keys = ("views", "index")

    def __init__(self, backbone, num_images, clusters=4, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.num_images, self.clusters = backbone, num_images, clusters
        width = backbone.feature_dim
        self.head = keras.Sequential([keras.Input((width,)), keras.layers.Dense(clusters)])
        self.assignments = self.add_weight(
            shape=(num_images,), dtype="int32", trainable=False, initializer="zeros"
        )

    def begin_epoch(self, source):
        if source is None:
            raise ValueError("Clusters needs images for its clusters. Received: ready batches.")
        features = np.zeros((source.size, self.backbone.feature_dim))
        for x, index in source.batches(self.image_shape[:2]):
            features[index] = keras.ops.convert_to_numpy(self.encode(x))
        score = features @ np.cos(np.arange(features.shape[1]))  # depends on every image's rank
        ranks = np.argsort(np.argsort(score))
        self.assignments.assign(ranks * self.clusters // source.size)

    def compute_losses(self, batch, training):
        (view,), index = batch["views"], distribute.all_gather(batch["index"])
        logits = self.head(self.backbone(view, training=training), training=training)
        logits = distribute.all_gather(ops.cast(logits, "float32"))
        targets = ops.take(self.assignments, ops.cast(index, "int32"))
        losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        return {"loss": ops.mean(losses)}

    def default_views(self, image_size):
        return views.plain(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        return keras.optimizers.SGD(0.05, momentum=0.9)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class OwnNetwork(SSLModel):
    """A method that brings its own network: it predicts each pixel from its left neighbour.

    The backbone is the first layers of the network, which it shares.
    """

    def __init__(self, input_shape, width=8, **kwargs):
        super().__init__(**kwargs)
        self.input_shape, self.width = tuple(input_shape), width
        pixels = keras.Input(self.input_shape)
        x = keras.layers.ZeroPadding2D(((0, 0), (1, 0)))(pixels)
        x = keras.layers.Cropping2D(((0, 0), (0, 1)))(x)
        x = keras.layers.Conv2D(width, 1, activation="tanh")(x)
        x = maps = keras.layers.Conv2D(width, 1, activation="tanh")(x)
        x = keras.layers.Conv2D(self.input_shape[2], 1)(x)
        self.network = keras.Model(pixels, x)
        self.backbone = Backbone(keras.Model(pixels, maps), name="own")

    def compute_losses(self, batch, training):
        (view,) = batch["views"]
        error = ops.square(ops.cast(self.network(view, training=training), "float32") - view)
        return {"loss": ops.mean(distribute.all_gather(ops.mean(error, axis=(1, 2, 3))))}

    def log_prob(self, images, seed=0):
        x = to_unit_range(images)
        return -ops.sum(ops.square(self.network(x, training=False) - x), axis=(1, 2, 3))

    def default_views(self, image_size):
        return views.plain(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        return keras.optimizers.SGD(0.05, momentum=0.9)


def ready_batches(n=32, batch=16, shape=(8, 8, 3), seed=0):
    """A dataset of ready batches of two noisy views."""
    import tensorflow as tf

    x = images(n, shape, seed, "float32")
    y = np.clip(x + 0.1 * np.random.default_rng(seed + 1).standard_normal(x.shape), 0, 1).astype(
        "float32"
    )
    return tf.data.Dataset.from_tensor_slices({"views": (x, y)}).batch(batch, drop_remainder=True)
