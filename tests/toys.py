"""Small networks, methods and data for tests of the frame."""

import keras
import numpy as np
from keras import ops

from keras_ssl import distribute, views
from keras_ssl.backbones import Backbone
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, ema


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
        student = distribute.all_gather(self.backbone(view1, training=training))
        teacher = ops.stop_gradient(self.teacher(view2, training=training))
        return {"loss": ops.mean((student - distribute.all_gather(teacher) - 1.0) ** 2)}

    def after_step(self):
        ema.update(self.teacher, self.backbone, self.decay)


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
        distribute.write_rows(self.bank, index, pixels)
        features = distribute.all_gather(self.backbone(view, training=training))
        return {"loss": distance + ops.mean((features - 1.0) ** 2)}

    def default_views(self, image_size):
        return views.plain(image_size, flip=False)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class TwoPlayers(Follower):
    """A game: a critic tells the views' features apart, the backbone makes them alike."""

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

    def update(self, batch):
        self.minimize(
            lambda: self._game(batch, -1.0), self.players["critic"], self.optimizer_of("critic")
        )
        return self.minimize(
            lambda: self._game(batch, 1.0), self.players["backbone"], self.optimizer_of("backbone")
        )

    def _game(self, batch, sign):
        scores = [self.critic(self.backbone(view, training=True)) for view in batch["views"]]
        scores = [distribute.all_gather(s) for s in scores]
        return {"loss": sign * ops.mean(scores[0] - scores[1] ** 2)}


def ready_batches(n=32, batch=16, shape=(8, 8, 3), seed=0):
    """A dataset of ready batches of two noisy views."""
    import tensorflow as tf

    x = images(n, shape, seed, "float32")
    y = np.clip(x + 0.1 * np.random.default_rng(seed + 1).standard_normal(x.shape), 0, 1).astype(
        "float32"
    )
    return tf.data.Dataset.from_tensor_slices({"views": (x, y)}).batch(batch, drop_remainder=True)
