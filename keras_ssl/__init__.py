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
from keras_ssl.engine import SSLModel
from keras_ssl.export import export_encoder
from keras_ssl.methods import (
    BYOL,
    CMC,
    DCL,
    NNCLR,
    PIRL,
    VAE,
    WMSE,
    BarlowTwins,
    BiGAN,
    InfoMin,
    InstDisc,
    MoCo,
    MoCoV3,
    RotNet,
    SimCLR,
    SimSiam,
    SupCon,
    SwAV,
    VICReg,
    create,
)
from keras_ssl.runs import pretrain

__version__ = "0.1.0"

__all__ = [
    "BYOL",
    "BarlowTwins",
    "BiGAN",
    "CMC",
    "DCL",
    "InfoMin",
    "InstDisc",
    "MoCo",
    "MoCoV3",
    "NNCLR",
    "PIRL",
    "RotNet",
    "SSLModel",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "SwAV",
    "VAE",
    "VICReg",
    "WMSE",
    "backbones",
    "callbacks",
    "create",
    "data",
    "distribute",
    "evaluation",
    "export_encoder",
    "layers",
    "losses",
    "ops",
    "optimizers",
    "pretrain",
    "views",
]
