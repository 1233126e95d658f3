"""A pretraining run: the loop, its folder, and what it watches and measures."""

from keras_ssl.encoders import load_encoder
from keras_ssl.runs.embed import embed
from keras_ssl.runs.evaluate import Card, evaluate
from keras_ssl.runs.pretrain import Run, pretrain, train

__all__ = ["Card", "Run", "embed", "evaluate", "load_encoder", "pretrain", "train"]
