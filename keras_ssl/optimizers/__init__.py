"""Optimizers that Keras lacks, and schedules as functions of the step.

In all of them but `AdamW` `weight_decay` is an L2 term in the gradient; in Keras' own it is
decoupled from it.
"""

from keras_ssl.optimizers.adam import Adam
from keras_ssl.optimizers.adamw import AdamW
from keras_ssl.optimizers.adjusted import adjusted
from keras_ssl.optimizers.lars import LARS
from keras_ssl.optimizers.players import Players, accumulation, each, inner
from keras_ssl.optimizers.schedules import (
    HoldExponential,
    WarmupCosine,
    WarmupDrops,
    cosine_momentum,
)
from keras_ssl.optimizers.sgd import LARC, SGD
from keras_ssl.optimizers.short_run import ShortRun, by_epochs

__all__ = [
    "Adam",
    "AdamW",
    "HoldExponential",
    "LARC",
    "LARS",
    "Players",
    "SGD",
    "ShortRun",
    "WarmupCosine",
    "WarmupDrops",
    "accumulation",
    "adjusted",
    "by_epochs",
    "cosine_momentum",
    "each",
    "inner",
]
