"""Views put together from operations: one after the other, and one, two or many of an image."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_ssl.views import geometry, image_ops
from keras_ssl.views.config import Configured

_BESIDE = (0x5EED, 0x51DE)  # any constant but 0: it turns a seed into another one


@keras.saving.register_keras_serializable("keras_ssl")
class Compose(Configured):
    """Operations one after the other, each with a seed of its own.

    `compose(image, seed) -> image`, float32 in [0, 1].

    Args:
        ops: callables `op(image, seed) -> image`; serialisable if the pipeline should be saved.

    `image_size` is that of the last operation that has one, or None.
    """

    def __init__(self, ops: Sequence[Callable]) -> None:
        if not ops:
            raise ValueError("`ops` must hold at least one operation. Received: none.")
        self.ops = tuple(ops)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the result, where an operation fixes them."""
        sizes = [op.image_size for op in self.ops if getattr(op, "image_size", None)]
        return sizes[-1] if sizes else None

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """All operations applied to `image`."""
        for op, op_seed in zip(self.ops, image_ops.split_seed(seed, len(self.ops)), strict=True):
            image = op(image, op_seed)
        return image_ops.to_float(image)


@keras.saving.register_keras_serializable("keras_ssl")
class TwoViews(Configured):
    """Two independent views of one image: `{"views": (view1, view2)}`.

    Args:
        first: callable `(image, seed) -> image`, such as `Compose`.
        second: the same for the second view; None: `first` again, with another seed.
    """

    def __init__(self, first: Callable, second: Callable | None = None) -> None:
        self.first, self.second = first, second

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the first view, where it fixes them."""
        return getattr(self.first, "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Both views of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        seed1, seed2 = image_ops.split_seed(seed, 2)
        return {"views": (self.first(image, seed1), (self.second or self.first)(image, seed2))}


@keras.saving.register_keras_serializable("keras_ssl")
class SingleView(Configured):
    """One view of one image: `{"views": (view,)}`.

    Args:
        view: callable `(image, seed) -> image`, such as `Compose`.
    """

    def __init__(self, view: Callable) -> None:
        self.view = view

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the view, where it fixes them."""
        return getattr(self.view, "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict[str, tuple[tf.Tensor]]:
        """The view of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        return {"views": (self.view(image, seed),)}


@keras.saving.register_keras_serializable("keras_ssl")
class MultiCrop(Configured):
    """Many independent views of one image, at several sizes: `{"views": (view1, view2, ...)}`.

    Caron et al. 2020 (SwAV), https://arxiv.org/abs/2006.09882, section 3.3: two large views that
    see most of the image and several small ones that cost little.

    Args:
        pipelines: callables `(image, seed) -> image`, the largest views' first.
        counts: how many views each of them makes, >= 1; (2, 6) for two pipelines gives eight.

    Raises:
        ValueError: if there is not one count >= 1 for each pipeline.
    """

    def __init__(self, pipelines: Sequence[Callable], counts: Sequence[int]) -> None:
        if not pipelines or len(pipelines) != len(counts) or min(counts) < 1:
            raise ValueError(
                "`counts` must hold a number >= 1 for each of `pipelines`. "
                f"Received: counts={tuple(counts)} for {len(pipelines)} pipelines. "
                "Leave out a pipeline that makes no view."
            )
        self.pipelines, self.counts = tuple(pipelines), tuple(counts)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the first view, where it fixes them."""
        return getattr(self.pipelines[0], "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict[str, tuple[tf.Tensor, ...]]:
        """All views of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        makers = [make for make, n in zip(self.pipelines, self.counts) for _ in range(n)]
        seeds = image_ops.split_seed(seed, len(makers))
        return {"views": tuple(make(image, own) for make, own in zip(makers, seeds))}


@keras.saving.register_keras_serializable("keras_ssl")
class Joined(Configured):
    """The views of several pipelines, one after the other: `{"views": (view1, view2, ...)}`.

    Args:
        pipelines: callables `(image, seed) -> {"views": (...)}`, such as `TwoViews`; each gets a
            seed of its own.
    """

    def __init__(self, pipelines: Sequence[Callable]) -> None:
        if not pipelines:
            raise ValueError("`pipelines` must hold at least one pipeline. Received: none.")
        self.pipelines = tuple(pipelines)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the first view, where it fixes them."""
        return getattr(self.pipelines[0], "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict[str, tuple[tf.Tensor, ...]]:
        """All views of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        seeds = image_ops.split_seed(seed, len(self.pipelines))
        made = [make(image, own)["views"] for make, own in zip(self.pipelines, seeds)]
        return {"views": tuple(view for views in made for view in views)}


@keras.saving.register_keras_serializable("keras_ssl")
class WithView(Configured):
    """The views of a pipeline, and beside them one more of the same image, under a key of its own.

    For losses of two kinds on one image, such as those of `Auxiliary`. The pipeline makes what it
    makes alone: it gets the image's seed as it is. The further view's seed is made of it, by the
    same rule whatever the pipeline.

    Args:
        views: callable `(image, seed) -> dict`, such as `TwoViews`.
        view: callable `(image, seed) -> image`, such as `Compose`.
        key: of the batch, under which the further view stands.
    """

    def __init__(self, views: Callable, view: Callable, key: str = "supervised") -> None:
        self.views, self.view, self.key = views, view, key

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the pipeline's views, where they are fixed."""
        return getattr(self.views, "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict:
        """What the pipeline makes of `image` `(H, W, C)`, and the further view."""
        batch = dict(self.views(image, seed))
        if self.key in batch:
            raise ValueError(
                f"`key` must not be one that the views have. Received: {self.key!r}; the views "
                f"have {list(batch)}. Choose another name."
            )
        # Another key for the generator: parts of `seed` itself are what the pipeline may draw.
        (own,) = image_ops.split_seed(tf.bitwise.bitwise_xor(seed, _BESIDE), 1)
        return {**batch, self.key: image_ops.to_float(self.view(image, own))}


@keras.saving.register_keras_serializable("keras_ssl")
class Rotations(Configured):
    """One view turned by 0, 90, 180 and 270 degrees counter-clockwise, and which is which.

    `{"views": (r0, r90, r180, r270), "rotations": [0, 1, 2, 3]}`, the numbers as int32. Whatever
    changes the image (crop, flip) belongs into `view`, before the rotations: flipping an image
    rotated by 90 degrees gives the flipped image rotated by 270, so labels would be wrong. Gidaris
    et al. 2018, https://arxiv.org/abs/1803.07728.

    Args:
        view: callable `(image, seed) -> image`, whose result is square.

    Raises:
        ValueError: if the result of `view` is not square, or its size is unknown.
    """

    def __init__(self, view: Callable) -> None:
        self.view = view
        size = self.image_size
        if size is not None and size[0] != size[1]:
            raise ValueError(_not_square(size))

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the views, where they are fixed."""
        return getattr(self.view, "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict:
        """The four rotations of the view of `image` `(H, W, C)`, uint8 or float in [0, 1]."""
        image = image_ops.to_float(self.view(image, seed))
        height, width = image.shape[:2]
        if height is None or height != width:
            raise ValueError(_not_square((height, width)))
        return {"views": geometry.right_angles(image), "rotations": tf.range(4, dtype=tf.int32)}


def _not_square(size: tuple) -> str:
    return (
        "`view` must make square images of known size: otherwise the shape would give a rotation "
        f"by 90 degrees away. Received: images of {size} (height, width). Crop to a square first, "
        "for instance with `CenterCrop(size)`."
    )
