"""Random numbers that a method needs beside the views of an image."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.views import image_ops
from keras_ssl.views.config import Configured

_KERNELS = {
    "normal": tf.raw_ops.StatelessRandomNormal,
    "uniform": tf.raw_ops.StatelessRandomUniform,
}


@keras.saving.register_keras_serializable("keras_ssl")
class WithNoise(Configured):
    """Views with random numbers added to the batch, a function of the image's seed alone.

    A method that needs noise in its objective reads it from the batch: so it is the same on every
    backend, for every number of replicas, and in a resumed run. Each key has random numbers of its
    own, whatever the other keys and the views draw.

    Args:
        views: callable `(image, seed) -> dict` with the key `"views"`.
        noise: dict from a key of the batch to what it holds, `{"distribution": "normal" or
            "uniform", "shape": shape of one image's numbers}`: standard normal, or uniform in [0,
            1). The batch has them as float32 `(B, *shape)`.

    Raises:
        ValueError: if an entry of `noise` is not of this form, or the views already have its key.
    """

    def __init__(self, views: Callable, noise: Mapping[str, Mapping[str, Any]]) -> None:
        if not noise:
            raise ValueError("`noise` must hold at least one entry. Received: none.")
        self.views = views
        self.noise = {name: _checked(name, entry) for name, entry in noise.items()}

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the views, where they are fixed."""
        return getattr(self.views, "image_size", None)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> dict:
        """What the views make of `image`, and the noise."""
        names = sorted(self.noise)  # a config that was saved may give the keys in another order
        views_seed, *seeds = image_ops.split_seed(seed, 1 + len(names))
        batch = dict(self.views(image, views_seed))
        for name, own in zip(names, seeds):
            if name in batch:
                raise ValueError(
                    f"`noise` must not use a key of the views. Received: {name!r}; the views have "
                    f"{list(batch)}. Choose another name."
                )
            entry = self.noise[name]
            shape = tf.constant(entry["shape"], tf.int32, (len(entry["shape"]),))
            batch[name] = _KERNELS[entry["distribution"]](shape=shape, seed=own, dtype=tf.float32)
        return batch


def _checked(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """`entry` with its shape as a tuple, if it is of the right form."""
    if (
        set(entry) != {"distribution", "shape"}
        or entry["distribution"] not in _KERNELS
        or min(entry["shape"], default=1) < 1
    ):
        raise ValueError(
            f"`noise[{name!r}]` must have a `distribution` of {list(_KERNELS)} and a `shape` of "
            f"positive numbers. Received: {dict(entry)}. "
            "Write {'distribution': 'normal', 'shape': (64,)}, for instance."
        )
    return {"distribution": entry["distribution"], "shape": tuple(entry["shape"])}
