"""One file per method, named after the paper's method."""

import inspect

from keras_ssl import backbones
from keras_ssl.methods.barlow_twins import BarlowTwins
from keras_ssl.methods.bigan import BiGAN
from keras_ssl.methods.byol import BYOL
from keras_ssl.methods.cmc import CMC
from keras_ssl.methods.dcl import DCL
from keras_ssl.methods.infomin import InfoMin
from keras_ssl.methods.instdisc import InstDisc
from keras_ssl.methods.moco import MoCo
from keras_ssl.methods.moco_v3 import MoCoV3
from keras_ssl.methods.nnclr import NNCLR
from keras_ssl.methods.pirl import PIRL
from keras_ssl.methods.rotnet import RotNet
from keras_ssl.methods.simclr import SimCLR
from keras_ssl.methods.simsiam import SimSiam
from keras_ssl.methods.supcon import SupCon
from keras_ssl.methods.swav import SwAV
from keras_ssl.methods.vae import VAE
from keras_ssl.methods.vicreg import VICReg
from keras_ssl.methods.wmse import WMSE
from keras_ssl.ops.names import near

METHODS = {
    cls.__name__.lower(): cls
    for cls in (
        BYOL,
        BarlowTwins,
        BiGAN,
        CMC,
        DCL,
        InfoMin,
        InstDisc,
        MoCo,
        MoCoV3,
        NNCLR,
        PIRL,
        RotNet,
        SimCLR,
        SimSiam,
        SupCon,
        SwAV,
        VAE,
        VICReg,
        WMSE,
    )
}


def create(name, input_shape=(224, 224, 3), backbone="resnet18", **options):
    """Make any method by name, with its paper's defaults.

    Args:
        name: the class name of the method in any case; `-` and `_` are ignored.
        input_shape: height, width and channels of the images.
        backbone: name of a backbone in `keras_ssl.backbones`, or a model.
        **options: further arguments of the method's constructor.

    Returns:
        The method, a `keras_ssl.SSLModel`.

    Raises:
        ValueError: if the name or an option is unknown; the message names the near ones.

    Example:
        >>> model = keras_ssl.create("simclr", input_shape=(32, 32, 3), backbone="small_conv")
    """
    method = _named(name)
    known = [
        p for p in inspect.signature(method.__init__).parameters if p not in ("self", "kwargs")
    ]
    for option in options:
        if option not in known:
            raise ValueError(f"{method.__name__} has no argument {option!r}." + near(option, known))
    if _keeps_images(method) and "num_images" not in options:
        raise ValueError(
            f"{method.__name__} keeps state of every image: `num_images`, the number of images of "
            f"the data, must be given. Received: {sorted(options)}. Call "
            f"create({name!r}, ..., num_images=50_000), for instance."
        )
    return method(backbones.get(backbone, input_shape), **options)


def with_num_images(name, num_images, options):
    """`options` and, where the method keeps state of each image and they lack it, `num_images`."""
    if _keeps_images(_named(name)):
        return {"num_images": num_images, **options}
    return options


def _keeps_images(method):
    """Whether the method always keeps state of each image, and must know how many there are."""
    argument = inspect.signature(method.__init__).parameters.get("num_images")
    return argument is not None and argument.default is argument.empty


def _named(name):
    key = name.lower().replace("-", "").replace("_", "") if isinstance(name, str) else name
    if key not in METHODS:
        raise ValueError(
            f"`name` must be a method of keras_ssl. Received: {name!r}." + near(str(name), METHODS)
        )
    return METHODS[key]


__all__ = [
    "BYOL",
    "BarlowTwins",
    "BiGAN",
    "CMC",
    "DCL",
    "InfoMin",
    "InstDisc",
    "METHODS",
    "MoCo",
    "MoCoV3",
    "NNCLR",
    "PIRL",
    "RotNet",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "SwAV",
    "VAE",
    "VICReg",
    "WMSE",
    "create",
    "with_num_images",
]
