"""Pretraining runs: the loop, its folder, what it watches and measures; many runs compared."""

from keras_ssl.encoders import load_encoder
from keras_ssl.runs.compare import Comparison, compare
from keras_ssl.runs.embed import embed
from keras_ssl.runs.evaluate import Card, evaluate
from keras_ssl.runs.pretrain import Run, pretrain, train

__all__ = [
    "Card",
    "Comparison",
    "Run",
    "compare",
    "embed",
    "evaluate",
    "load_encoder",
    "pretrain",
    "train",
]
