"""Self-supervised learning for Keras 3 and TensorFlow.

backbone = keras_ssl.backbones.resnet18(input_shape=(32, 32, 3))
model = keras_ssl.SimCLR(backbone)
model.fit(images, epochs=100)
model.export_encoder("encoder")
"""

from keras_ssl import (
    backbones,
    callbacks,
    data,
    distribute,
    evaluation,
    layers,
    losses,
    ops,
    optimizers,
    views,
)
from keras_ssl.encoders import load_encoder
from keras_ssl.engine import SSLModel
from keras_ssl.export import export_encoder
from keras_ssl.methods import *  # noqa: F403  (every method)
from keras_ssl.methods.create import create
from keras_ssl.runs import compare, embed, evaluate, pretrain

__version__ = "0.3.0"

_INTERNAL = {"METHODS", "encoders", "engine", "export", "methods", "report", "runs"}
__all__ = sorted(name for name in vars() if name[0] != "_" and name not in _INTERNAL)
