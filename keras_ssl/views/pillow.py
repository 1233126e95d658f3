"""Crop, colour jitter and blur as authors who use PyTorch have them, by torchvision and Pillow."""

from collections.abc import Sequence

from keras_ssl.ops import is_small
from keras_ssl.views.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

_REACH = 13  # Pillow's blur, three boxes, spreads a pixel over 6 more on each side for sigma 2


def crop(
    image_size: Sequence[int], scale: Sequence[float] = (0.08, 1.0), interpolation: str = "bilinear"
) -> RandomResizedCrop:
    """Torchvision's random crop: antialiased above 64 px.

    Below 64 px it is not: images of that size are rarely made of larger ones, and where they are no
    larger than the views, antialiasing changes nothing and only costs time.
    """
    antialias = not is_small(image_size)
    return RandomResizedCrop(image_size, scale, interpolation=interpolation, antialias=antialias)


def jitter(
    brightness: float, contrast: float, saturation: float, hue: float, p: float = 0.8
) -> ColorJitter:
    """Torchvision's colour jitter."""
    return ColorJitter(brightness, contrast, saturation, hue, p, form="torchvision")


def blur(p: float = 0.5) -> GaussianBlur:
    """Pillow's blur with sigma U(0.1, 2): edges extended, 13 pixels across whatever the size."""
    return GaussianBlur(p, kernel_size=_REACH, padding="edge")
