"""InfoMin's views: two that share little, and the patches of a third in random order."""

from collections.abc import Sequence

from keras_ssl.ops import is_small
from keras_ssl.views import pillow
from keras_ssl.views.compose import Compose, Joined, TwoViews
from keras_ssl.views.config import check_size
from keras_ssl.views.jigsaw import default_grid, shuffled_patches
from keras_ssl.views.rand_augment import RandAugment
from keras_ssl.views.transforms import GaussianBlur, Grayscale, HorizontalFlip


def infomin(image_size: int | Sequence[int], grid: int | None = None) -> TwoViews | Joined:
    """InfoMin's views: query, key, and the patches of a jigsaw.

    Query and key: crop of 20-100 % of the area, bilinear; flip 0.5; jitter (0.8, 0.8, 0.8, 0.2)
    with probability 0.8; blur 0.5 with sigma U(0.1, 2); two operations of RandAugment at magnitude
    10, each with probability 0.5; grey 0.2. Patches: crop of 60-100 % in 255 / 224 of `image_size`,
    flip 0.5, cut into a grid of 3 x 3 cells, of each a patch of 64 / 85 of its sides (64 px for
    images of 224). Below 64 px, our choice: no blur, half the jitter (with all of it views of
    CIFAR-10 share too little), the jigsaw's crop of `image_size` and a grid of 2 x 2. Colours and
    crops are torchvision's and Pillow's; the blur's kernel is a tenth of the height, the image
    mirrored outside.

    Tian et al. 2020, https://arxiv.org/abs/2005.10243 (section 5); the authors' code, PyContrast,
    which calls the set "D". Departures from it: see `RandAugment`.

    Args:
        image_size: pixels of query and key, one number or (height, width).
        grid: cells a side of the jigsaw; by default 2 below 64 px, else 3. 0 for no patches.

    Returns:
        Views that make (query, key, patch, patch, ...).

    Raises:
        ValueError: if an argument is out of range.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    s = 0.5 if small else 1.0
    grid = default_grid(size) if grid is None else grid
    ops = [
        pillow.crop(size, (0.2, 1.0)),
        HorizontalFlip(),
        pillow.jitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s),
        *([] if small else [GaussianBlur(0.5, padding="reflect")]),
        RandAugment(),
        Grayscale(0.2),
    ]
    pair = TwoViews(Compose(ops))
    if not grid:
        return pair
    return Joined([pair, shuffled_patches(size, grid, whole=[HorizontalFlip()])])
