"""The view pipelines of the papers."""

from collections.abc import Sequence

from keras_ssl.views.compose import Compose, TwoViews
from keras_ssl.views.config import check_size
from keras_ssl.views.transforms import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
)

_SMALL = 64  # pixels up to which the settings for CIFAR-10 are the defaults


def simclr(
    image_size: int | Sequence[int], strength: float | None = None, blur: float | None = None
) -> TwoViews:
    """SimCLR's two views: crop, flip, colour jitter, grey, blur.

    Crop of 8-100 % of the area, ratio 3/4 to 4/3, bicubic; flip 0.5; jitter (0.8 s, 0.8 s, 0.8 s,
    0.2 s) with probability 0.8 in random order; grey 0.2; blur with sigma U(0.1, 2), kernel a tenth
    of the height.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709 (appendix A; B.9 for CIFAR-10). Departures
    from the authors' code: the crop's ratio is drawn uniformly in its logarithm; the overshoot of
    the bicubic crop is cut off at once, theirs by the jitter or at the end.

    Args:
        image_size: pixels of the views, one number or (height, width).
        strength: s above; by default 0.5 up to 64 px, else 1.0.
        blur: probability of the blur; by default none up to 64 px, else 0.5.

    Raises:
        ValueError: when an argument is out of range.
    """
    size = check_size("image_size", image_size)
    small = max(size) <= _SMALL
    s = (0.5 if small else 1.0) if strength is None else strength
    blur = (0.0 if small else 0.5) if blur is None else blur
    ops = [
        RandomResizedCrop(size),
        HorizontalFlip(),
        ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8),
        Grayscale(0.2),
    ]
    return TwoViews(Compose([*ops, GaussianBlur(blur)] if blur else ops))
