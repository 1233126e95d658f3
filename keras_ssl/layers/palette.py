"""A palette: a few colours, found in the training images, that stand for all."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.layers.starting import start_flag

_PIXELS = 2**24  # of the images that are read, at most
_SAMPLE = 2**20  # of these that k-means sees


@keras.saving.register_keras_serializable("keras_ssl")
class Palette(keras.layers.Layer):
    """Map each pixel to the number of the nearest of K colours.

        t = argmin_k |x - c_k|^2

    The colours are variables, set by `fit` from images and not trained. Chen et al. 2020 (iGPT),
    section 2.1: K = 512 and k-means on the pixels of the training images. Departures from it:
    mini-batch k-means (Sculley 2010) on a sample of a million pixels.

    Args:
        size: K, >= 2.
        channels: of the images.
        **kwargs: as `keras.layers.Layer`.

    Attributes:
        colours: variable `(K, channels)`, in [0, 1]; a ramp of greys before `fit`.
        fitted: variable, 1 after `fit`.

    Raises:
        ValueError: if `size` is below 2.
    """

    def __init__(self, size: int, channels: int = 3, **kwargs: Any):
        # Neither images nor colours may lose digits: nearest colours would change.
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        if size < 2:
            raise ValueError(f"The palette must have 2 colours or more. Received: {size}.")
        self.size, self.channels = size, channels

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the colours."""
        ramp = np.linspace(0, 1, self.size, dtype="float32")[:, None].repeat(self.channels, axis=1)
        self.colours = self.add_weight(
            ramp.shape, lambda shape, dtype: ramp, trainable=False, name="colours"
        )
        self.fitted = start_flag(self)
        self.built = True

    def call(self, images: Any) -> Any:
        """Tokens `(B, H W)`, int32, row by row, of images `(B, H, W, channels)` in [0, 1]."""
        height, width, channels = images.shape[1:]
        pixels = ops.reshape(ops.cast(images, "float32"), (-1, height * width, channels))
        colours = ops.convert_to_tensor(self.colours)
        # |x|^2 is the same for all colours and left out.
        distance = ops.sum(ops.square(colours), axis=-1) - 2.0 * ops.matmul(
            pixels, ops.transpose(colours)
        )
        return ops.cast(ops.argmin(distance, axis=-1), "int32")

    def images(self, tokens: Any, shape: Sequence[int]) -> Any:
        """The images `(B, *shape)` that tokens `(B, H W)` stand for."""
        return ops.reshape(ops.take(self.colours, tokens, axis=0), (-1, *shape))

    def fit(self, source: Any, image_size: Sequence[int], seed: int = 0) -> None:
        """Set the colours to the centres of k-means of pixels of `source`.

        Images with no more than K colours keep all of theirs.

        Args:
            source: `keras_ssl.data.Source`.
            image_size: (height, width) that images are brought to.
            seed: of the sample and of k-means.
        """
        from sklearn.cluster import MiniBatchKMeans

        limit = max(1, _PIXELS // (image_size[0] * image_size[1]))
        images, _ = source.arrays(tuple(image_size), limit=limit)
        pixels = images.reshape(-1, self.channels)
        rng = np.random.default_rng(seed)
        if len(pixels) > _SAMPLE:
            pixels = pixels[rng.choice(len(pixels), _SAMPLE, replace=False)]
        if pixels.dtype == np.uint8:
            pixels = pixels / np.float32(255)
        colours = np.unique(pixels, axis=0)
        if len(colours) > self.size:
            kmeans = MiniBatchKMeans(
                self.size, batch_size=8192, n_init=1, max_no_improvement=50, random_state=seed
            )
            colours = kmeans.fit(pixels).cluster_centers_
        # Colours that no image has repeat the last one, which then stands for it alone.
        missing = self.size - len(colours)
        self.colours.assign(np.concatenate([colours, colours[-1:].repeat(missing, axis=0)]))
        self.fitted.assign(1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """(B, H W)."""
        batch, height, width, _ = input_shape
        return (batch, height * width)

    def compute_output_spec(self, images: Any) -> keras.KerasTensor:
        """Integers of `compute_output_shape`."""
        return keras.KerasTensor(self.compute_output_shape(images.shape), dtype="int32")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size, "channels": self.channels}
