"""Optimizers that Keras lacks, and schedules as functions of the step."""

from keras_ssl.optimizers.lars import LARS
from keras_ssl.optimizers.schedules import WarmupCosine, cosine_momentum

__all__ = ["LARS", "WarmupCosine", "cosine_momentum"]
