"""Losses: pure functions of the global batch, computed in float32.

They return a scalar; those of `likelihood`, and `masked_cross_entropy` and `smooth_l1`, one number
an image.
"""

from keras_ssl.losses.adversarial import discriminator_loss, joint_generator_loss
from keras_ssl.losses.classification import labelled_cross_entropy
from keras_ssl.losses.clustering import (
    code_cross_entropy,
    code_divergence,
    cross_view_cross_entropy,
    swapped_prediction,
)
from keras_ssl.losses.contrastive import (
    decoupled_contrastive,
    info_nce,
    inter_view_nce,
    nt_xent,
    supervised_contrastive,
)
from keras_ssl.losses.distillation import (
    feature_mse,
    similarity_cross_entropy,
    soft_target_cross_entropy,
    softmax_kl,
)
from keras_ssl.losses.entropy import koleo
from keras_ssl.losses.likelihood import (
    bernoulli,
    discretized_logistic,
    discretized_logistic_mixture,
    gaussian,
    kl_standard_normal,
    squared_error,
    standard_logistic,
    standard_normal,
)
from keras_ssl.losses.noise_contrastive import (
    memory_cross_entropy,
    memory_scores,
    noise_contrastive,
    partition_estimate,
)
from keras_ssl.losses.normality import center_and_scale, sigreg, sliced_wasserstein
from keras_ssl.losses.redundancy import barlow_twins, coding_rate, vicreg
from keras_ssl.losses.regression import invariance, negative_cosine, smooth_l1
from keras_ssl.losses.self_distillation import dino, dino_targets, gram, masked_cross_entropy
from keras_ssl.losses.whitening import whitened_mse

__all__ = [
    "barlow_twins",
    "bernoulli",
    "center_and_scale",
    "code_cross_entropy",
    "code_divergence",
    "coding_rate",
    "cross_view_cross_entropy",
    "decoupled_contrastive",
    "dino",
    "dino_targets",
    "discretized_logistic",
    "discretized_logistic_mixture",
    "discriminator_loss",
    "feature_mse",
    "gaussian",
    "gram",
    "info_nce",
    "inter_view_nce",
    "invariance",
    "joint_generator_loss",
    "kl_standard_normal",
    "koleo",
    "labelled_cross_entropy",
    "masked_cross_entropy",
    "memory_cross_entropy",
    "memory_scores",
    "negative_cosine",
    "noise_contrastive",
    "nt_xent",
    "partition_estimate",
    "sigreg",
    "similarity_cross_entropy",
    "sliced_wasserstein",
    "smooth_l1",
    "softmax_kl",
    "soft_target_cross_entropy",
    "squared_error",
    "standard_logistic",
    "standard_normal",
    "supervised_contrastive",
    "swapped_prediction",
    "vicreg",
    "whitened_mse",
]
