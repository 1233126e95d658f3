"""Small networks, methods and data for tests of the frame."""

import keras
import numpy as np
from keras import ops

from keras_ssl import distribute
from keras_ssl.backbones import Backbone
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, ema


def tiny_backbone(shape=(8, 8, 3), width=8, name="tiny"):
    """Two convolutions with batch normalisation; 8 features."""
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(batch_norm()(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(batch_norm()(x))
    return Backbone(keras.Model(inputs, x), name=name)


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

    @property
    def image_shape(self):
        return self.backbone.image_shape

    def compute_losses(self, batch, training):
        view1, view2 = batch["views"]
        student = distribute.all_gather(self.backbone(view1, training=training))
        teacher = ops.stop_gradient(self.teacher(view2, training=training))
        return {"loss": ops.mean((student - distribute.all_gather(teacher) - 1.0) ** 2)}

    def after_step(self):
        ema.update(self.teacher, self.backbone, self.decay)


def ready_batches(n=32, batch=16, shape=(8, 8, 3), seed=0):
    """A dataset of ready batches of two noisy views."""
    import tensorflow as tf

    x = images(n, shape, seed, "float32")
    y = np.clip(x + 0.1 * np.random.default_rng(seed + 1).standard_normal(x.shape), 0, 1).astype(
        "float32"
    )
    return tf.data.Dataset.from_tensor_slices({"views": (x, y)}).batch(batch, drop_remainder=True)
