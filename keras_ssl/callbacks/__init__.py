"""Callbacks that watch a run. None of them touches the weights or what training sees."""

from keras_ssl.callbacks.collapse import CollapseMonitor
from keras_ssl.callbacks.divergence import DivergenceGuard, TrainingDiverged
from keras_ssl.callbacks.knn import KNNMonitor
from keras_ssl.callbacks.likelihood import LikelihoodMonitor
from keras_ssl.callbacks.samples import SampleWriter
from keras_ssl.callbacks.tensorboard import TensorBoardScalars

__all__ = [
    "CollapseMonitor",
    "DivergenceGuard",
    "KNNMonitor",
    "LikelihoodMonitor",
    "SampleWriter",
    "TensorBoardScalars",
    "TrainingDiverged",
]
