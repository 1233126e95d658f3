"""View pipelines: from one image to what a method trains on; stateless, seeded."""

from keras_ssl.views.compose import Compose, MultiCrop, Rotations, SingleView, TwoViews
from keras_ssl.views.distortions import Cutout, GaussianNoise, QuarterTurns, Sobel
from keras_ssl.views.noise import WithNoise
from keras_ssl.views.presets import byol, cmc, instdisc, moco, plain, rotnet, simclr, swav, wmse
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
    "MultiCrop",
    "PadAndCrop",
    "QuarterTurns",
    "RandomResizedCrop",
    "Rotations",
    "SingleView",
    "Sobel",
    "Solarize",
    "TwoViews",
    "WithNoise",
    "byol",
    "cmc",
    "instdisc",
    "moco",
    "plain",
    "rotnet",
    "simclr",
    "swav",
    "wmse",
]
