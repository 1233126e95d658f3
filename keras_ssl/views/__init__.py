"""View pipelines: from one image to what a method trains on; stateless, seeded."""

from keras_ssl.views.compose import Compose, TwoViews
from keras_ssl.views.presets import simclr
from keras_ssl.views.transforms import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Solarize,
)

__all__ = [
    "ColorJitter",
    "Compose",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "RandomResizedCrop",
    "Solarize",
    "TwoViews",
    "simclr",
]
