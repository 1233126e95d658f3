"""Images drawn from a model while it is trained."""

import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks.monitor import check_every


class SampleWriter(keras.callbacks.Callback):
    """Write a sheet of images drawn from the model, `epoch-00005.png`, every few epochs.

    For models that `can("sample")`. The draws have one seed, so that sheets show the same latents
    (or noise) under other weights.

    Args:
        folder: where the sheets are written; it is made with the first.
        count: images on a sheet, in rows of eight.
        every: epochs between two sheets; the last epoch has one in any case.
        seed: of the draws.

    Raises:
        ValueError: if `count` or `every` is not positive.
    """

    def __init__(self, folder: str | os.PathLike, count: int = 24, every: int = 1, seed: int = 0):
        super().__init__()
        check_every(every)
        if count < 1:
            raise ValueError(f"`count` must be >= 1. Received: count={count}.")
        self.folder, self.count, self.every, self.seed = pathlib.Path(folder), count, every, seed

    def on_epoch_end(self, epoch, logs=None):
        """Draw and write, where it is time."""
        if (epoch + 1) % self.every and epoch + 1 != (self.params or {}).get("epochs"):
            return
        images = keras.ops.convert_to_numpy(self.model.sample(self.count, seed=self.seed))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{epoch + 1:05d}.png"
        partial = path.with_name(f".{path.name}")  # the sheet is there whole or not at all
        keras.utils.save_img(partial, sheet(images), file_format="png", scale=False)
        os.replace(partial, path)


def sheet(images: Any, columns: int = 8) -> np.ndarray:
    """Images (n, H, W, C) in [0, 1] side by side, rows of `columns`: uint8 (height, width, 1 or 3).

    Of two channels, or more than three, the mean and the first three are shown.
    """
    images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    if images.shape[-1] == 2:
        images = images.mean(axis=-1, keepdims=True).astype(np.uint8)
    images = images[..., :3]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    empty = np.zeros((rows * columns - len(images), *images.shape[1:]), np.uint8)
    tiles = np.concatenate([images, empty]).reshape(rows, columns, *images.shape[1:])
    rows_of_pixels = tiles.transpose(0, 2, 1, 3, 4)
    return rows_of_pixels.reshape(rows * images.shape[1], columns * images.shape[2], -1)
