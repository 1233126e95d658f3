"""Losses: pure functions of the global batch, computed in float32.

They return a scalar; those of `likelihood` one number an image.
"""

from keras_ssl.losses.adversarial import discriminator_loss, joint_generator_loss
from keras_ssl.losses.clustering import code_cross_entropy, swapped_prediction
from keras_ssl.losses.contrastive import info_nce, nt_xent
from keras_ssl.losses.likelihood import (
    bernoulli,
    discretized_logistic,
    gaussian,
    kl_standard_normal,
)
from keras_ssl.losses.regression import negative_cosine

__all__ = [
    "bernoulli",
    "code_cross_entropy",
    "discretized_logistic",
    "discriminator_loss",
    "gaussian",
    "info_nce",
    "joint_generator_loss",
    "kl_standard_normal",
    "negative_cosine",
    "nt_xent",
    "swapped_prediction",
]
