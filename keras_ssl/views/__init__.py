"""View pipelines: from one image to what a method trains on; stateless, seeded."""

from keras_ssl.views.compose import (
    Compose,
    Joined,
    MultiCrop,
    Rotations,
    SingleView,
    TwoViews,
    WithView,
)
from keras_ssl.views.distortions import Cutout, GaussianNoise, QuarterTurns, Sobel
from keras_ssl.views.infomin import infomin
from keras_ssl.views.jigsaw import ShuffledPatches, pirl
from keras_ssl.views.noise import WithNoise
from keras_ssl.views.presets import (
    byol,
    cmc,
    instdisc,
    lejepa,
    moco,
    plain,
    rotnet,
    simclr,
    supcon,
    supervised,
    swav,
    wmse,
)
from keras_ssl.views.rand_augment import Photometric, RandAugment
from keras_ssl.views.transforms import (
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    PadAndCrop,
    RandomResizedCrop,
    Solarize,
)

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Cutout",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HorizontalFlip",
    "Joined",
    "MultiCrop",
    "PadAndCrop",
    "Photometric",
    "QuarterTurns",
    "RandAugment",
    "RandomResizedCrop",
    "Rotations",
    "ShuffledPatches",
    "SingleView",
    "Sobel",
    "Solarize",
    "TwoViews",
    "WithNoise",
    "WithView",
    "byol",
    "cmc",
    "infomin",
    "instdisc",
    "lejepa",
    "moco",
    "pirl",
    "plain",
    "rotnet",
    "simclr",
    "supcon",
    "supervised",
    "swav",
    "wmse",
]
