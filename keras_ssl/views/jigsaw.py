"""Patches of an image in random order, and PIRL's views."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_ssl.ops import is_small
from keras_ssl.views import image_ops, pillow
from keras_ssl.views.compose import Compose, Joined, SingleView, TwoViews
from keras_ssl.views.config import Configured, check_size
from keras_ssl.views.distortions import QuarterTurns
from keras_ssl.views.rand_augment import Photometric
from keras_ssl.views.transforms import Grayscale, HorizontalFlip

TRANSFORMS = ("jigsaw", "rotation")


@keras.saving.register_keras_serializable("keras_ssl")
class ShuffledPatches(Configured):
    """Patches of an image in random order, a jigsaw: `{"views": (patch, patch, ...)}`.

    A view is divided into `grid * grid` cells; of each cell a part of `patch_size` is taken at a
    uniform place, so that no line continues from patch to patch. Noroozi and Favaro 2016,
    https://arxiv.org/abs/1603.09246, section 3; Misra and van der Maaten 2019 (PIRL),
    https://arxiv.org/abs/1912.01991, section 3.

    Args:
        whole: callable `(image, seed) -> image`, such as `Compose`, that makes the image to be cut,
            of known size.
        grid: cells a side, >= 1. Where a side is not divisible, the remaining pixels below and to
            the right are left out.
        patch_size: pixels of a patch, one number or (height, width), at most those of a cell.
        patch: callable `(image, seed) -> image` for each patch by itself; None leaves them as they
            are.

    Raises:
        ValueError: if a patch does not fit into its cell, or an argument is out of range.
    """

    def __init__(
        self,
        whole: Callable,
        grid: int = 3,
        patch_size: int | Sequence[int] = 64,
        patch: Callable | None = None,
    ) -> None:
        self.whole, self.patch = whole, patch
        self.grid, self.patch_size = check_grid(grid), check_size("patch_size", patch_size)
        size = getattr(whole, "image_size", None)
        if size is not None:
            self._cell(size)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a patch."""
        return self.patch_size

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict[str, tuple[tf.Tensor, ...]]:
        """The patches of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        seeds = image_ops.split_seed(seed, 2 + self.grid**2)
        patches = self.cut(self.whole(image, seeds[0]), seeds[1])
        if self.patch is not None:
            patches = [self.patch(patch, own) for patch, own in zip(patches, seeds[2:])]
        return {"views": tuple(patches)}

    def cut(self, image: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        """Patches of `image` `(H, W, C)`, H and W known, in random order; float32 in [0, 1]."""
        image = image_ops.to_float(image)
        cell, count = self._cell(image.shape[:2]), self.grid**2
        # Two numbers a cell place its patch, a third decides its rank: argsort of uniform numbers
        # is a uniform permutation.
        draws = image_ops.uniforms(seed, 3 * count)
        room = [float(side - own + 1) for side, own in zip(cell, self.patch_size)]
        within = tf.cast(tf.reshape(draws[: 2 * count], (count, 2)) * room, tf.int32)
        corners = [(row * cell[0], column * cell[1]) for row, column in _places(self.grid)]
        corners = tf.constant(corners, tf.int32) + within
        order = tf.argsort(draws[2 * count :])
        shape = (*self.patch_size, image_ops.num_channels(image))
        return [
            tf.ensure_shape(tf.slice(image, tf.concat([corner, [0]], 0), shape), shape)
            for corner in tf.unstack(tf.gather(corners, order))
        ]

    def _cell(self, size: Sequence[int | None]) -> tuple[int, int]:
        """Height and width of a cell of an image of `size`."""
        if None in tuple(size) or any(
            side // self.grid < own for side, own in zip(size, self.patch_size)
        ):
            raise ValueError(
                "`patch_size` must fit into a cell, the image's size over `grid`. Received: "
                f"patch_size={self.patch_size}, grid={self.grid} and a view of {tuple(size)} "
                "(height, width). Cut smaller patches, or make `whole` larger."
            )
        return size[0] // self.grid, size[1] // self.grid


def pirl(
    image_size: int | Sequence[int], transform: str = "jigsaw", grid: int | None = None
) -> Joined | TwoViews:
    """PIRL's views: the image, and the image transformed by a jigsaw or a rotation.

    Image: crop of 8-100 % of the area, bilinear; jitter (0.4, 0.4, 0.4, 0.2) always; `Photometric`
    with probability 0.66; grey 0.2; flip 0.5. Jigsaw: crop of 60-100 % in 255 / 224 of
    `image_size`, cut into a grid of 3 x 3 cells; of each a patch of 64 / 85 of its sides (64 px for
    images of 224); colours and flip as above, drawn for each patch. Below 64 px the crop has
    `image_size`, the grid is 2 x 2, patches of 12 px for images of 32, and there is no
    `Photometric`: our choice, as the paper has no such images. Rotation: a second view like the
    first, turned by 0, 90, 180 or 270 degrees; the image must be square. Colours and crops are
    torchvision's and Pillow's.

    Misra and van der Maaten 2019, https://arxiv.org/abs/1912.01991 (section 3 and appendix).
    Departures from the authors' code (VISSL): a patch may lie anywhere in its cell (theirs keeps
    off the last row and column); values are not rounded to 8 bits between operations.

    Args:
        image_size: pixels of the image's view, one number or (height, width).
        transform: "jigsaw" or "rotation".
        grid: cells a side of the jigsaw; by default 2 below 64 px, else 3.

    Returns:
        Views that make (image, patch, patch, ...) or (image, turned image).

    Raises:
        ValueError: if an argument is out of range, or `grid` is given for a rotation.
    """
    size = check_size("image_size", image_size)
    grid = resolve_grid(transform, grid, size)
    crop, photometric = pillow.crop(size), [] if is_small(size) else [Photometric(0.66)]
    jitter = pillow.jitter(0.4, 0.4, 0.4, 0.2, p=1.0)
    colors = [jitter, *photometric, Grayscale(0.2), HorizontalFlip()]
    if transform == "rotation":
        return TwoViews(Compose([crop, *colors]), Compose([crop, *colors, QuarterTurns()]))
    image = SingleView(Compose([crop, *colors]))
    return Joined([image, shuffled_patches(size, grid, patch=Compose(colors))])


def shuffled_patches(
    image_size: Sequence[int],
    grid: int,
    whole: Sequence[Callable] = (),
    patch: Callable | None = None,
) -> ShuffledPatches:
    """The jigsaw of PIRL and InfoMin, for images of `image_size` (height, width).

    The image that is cut is a crop of 60-100 % of the area, bilinear, of 255 / 224 of `image_size`
    (below 64 px: of `image_size`); patches have 64 / 85 of their cells' sides. `whole`: further
    operations before the cut; `patch`: the operation on each patch.
    """
    size = image_size if is_small(image_size) else [round(s * 255 / 224) for s in image_size]
    crop = pillow.crop(size, (0.6, 1.0))
    patch_size = [max(1, round(side // check_grid(grid) * 64 / 85)) for side in size]
    return ShuffledPatches(Compose([crop, *whole]), grid, patch_size, patch)


def resolve_grid(transform: str, grid: int | None, image_size: Sequence[int]) -> int | None:
    """Cells a side of PIRL's jigsaw of images of `image_size`, by default or as given; else None.

    Raises:
        ValueError: if `transform` is not known, or `grid` does not go with it.
    """
    if transform not in TRANSFORMS:
        raise ValueError(
            f"`transform` must be one of {TRANSFORMS}. Received: transform={transform!r}."
        )
    if transform == "jigsaw":
        return check_grid(default_grid(image_size) if grid is None else grid)
    if grid is not None:
        raise ValueError(
            f"`grid` is for transform='jigsaw'. Received: grid={grid} for a rotation. Leave it out."
        )
    return None


def default_grid(image_size: Sequence[int]) -> int:
    """Cells a side of a jigsaw of images of `image_size` (height, width)."""
    return 2 if is_small(image_size) else 3


def check_grid(grid: int) -> int:
    """`grid` as it is, if it is a number of cells."""
    if not grid >= 1:
        raise ValueError(f"`grid` must be >= 1, cells a side. Received: grid={grid}.")
    return grid


def _places(grid: int) -> list[tuple[int, int]]:
    """Rows and columns of the cells, row by row."""
    return [(row, column) for row in range(grid) for column in range(grid)]
