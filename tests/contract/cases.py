"""One small case of every exported method, and batches as its own views make them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import data

SHAPE, BATCH, COUNT = (8, 8, 3), 16, 48


@dataclasses.dataclass(frozen=True)
class Case:
    """How to make a small model of a method, and a learning rate at which SGD trains it.

    Methods with state of each image keep it for COUNT images, which is what all are trained on.
    """

    make: Callable
    rate: float = 0.1


CASES = {
    "BiGAN": Case(lambda: keras_ssl.BiGAN(tiny_backbone(), latent_dim=6)),
    "BYOL": Case(lambda: keras_ssl.BYOL(tiny_backbone(), momentum=0.9), rate=0.02),
    "MoCo": Case(lambda: keras_ssl.MoCo(tiny_backbone(), queue_size=40, momentum=0.9)),
    "RotNet": Case(lambda: keras_ssl.RotNet(tiny_backbone())),
    "SimCLR": Case(lambda: keras_ssl.SimCLR(tiny_backbone())),
    "SwAV": Case(
        lambda: keras_ssl.SwAV(tiny_backbone(), num_prototypes=20, freeze_steps=1), rate=0.03
    ),
    "VAE": Case(lambda: keras_ssl.VAE(tiny_backbone(), latent_dim=6), rate=1e-5),
}


def source(seed=0, shape=SHAPE):
    """COUNT noise images of four classes."""
    return data.from_array(images(COUNT, shape, seed), np.arange(COUNT) % 4)


def batches(model, steps=1, batch=BATCH):
    """A dataset of up to three ready batches, each image seen once."""
    views = model.default_views(model.image_shape[:2])
    labels = "label" in model.batch_keys
    stream = data.stream(source(shape=model.image_shape), views, batch, seed=0, labels=labels)
    stream = stream.take(steps).cache()
    return stream.apply(tf.data.experimental.assert_cardinality(steps))
