"""Views put together from operations: one after the other, and two of one image."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_ssl.views import image_ops
from keras_ssl.views.config import Configured


@keras.saving.register_keras_serializable("keras_ssl")
class Compose(Configured):
    """Operations one after the other, each with a seed of its own.

    `compose(image, seed) -> image`, float32 in [0, 1].

    Args:
        ops: callables `op(image, seed) -> image`; serialisable ones, if the whole is to be saved.

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
