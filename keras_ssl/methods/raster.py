"""What methods that draw images pixel by pixel share: the loop over rows, and the noise.

Such a method has

    noise_a_pixel                           how many uniform numbers the draw of a pixel takes;
    rows_a_step                             rows that one call of `draw_rows` draws;
    start_rows(count)                       what is known before the first row, a tree of tensors;
    draw_rows(state, known, keep, noise)    the next rows, and what is known after them;
    draw_pixel(images, row, column, noise)  images with one more pixel, by a whole forward pass.

All noise is drawn up front, so that both ways give the same images.
"""

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ssl.ops import draws, grey_values, to_unit_range


def draw(model, images, rows, seed, cached):
    """Images whose first `rows` rows are those of `images`, the others drawn.

    Args:
        model: the method.
        images: `(B, height, width, channels)`, uint8 or float in [0, 1] (rounded to 8 bits).
        rows: number of rows that are kept, from 0 to the height.
        seed: of the noise.
        cached: whether each row goes on from what the rows above have left (`draw_rows`), or each
            pixel is computed from all pixels anew (`draw_pixel`).

    Returns:
        float32 `(B, height, width, channels)`, multiples of 1 / 255.

    Raises:
        ValueError: if the images have another shape, or `rows` is outside its range.
    """
    _check(model, images, rows)
    images = grey_values(to_unit_range(images)) / 255.0
    count, height, width, _ = images.shape
    shape = (count, height, width, model.noise_a_pixel)
    noise = keras.random.uniform(shape, seed=seed, dtype="float32")
    if cached:
        return _by_rows(model, images, rows, noise)
    step = model.compiled_hook(model.draw_pixel)
    for i in _bar(range(rows, height)):
        for j in range(width):
            images = step(images, _number(i), _number(j), noise[:, i, j])
    return images


def blank(model, count):
    """`count` black images to draw on."""
    if count < 1:
        raise ValueError(f"`count` must be >= 1. Received: count={count}.")
    return ops.zeros((count, *model.image_shape), "float32")


def value(logits, noise):
    """A value in [0, 1] drawn from 256 classes, `(B,)`."""
    return ops.cast(draws.categorical(logits, noise), "float32") / 255.0


def with_colour(pixel, c, value):
    """`pixel` `(B, C)` with `value` `(B,)` as colour c."""
    return ops.concatenate([pixel[:, :c], value[:, None], pixel[:, c + 1 :]], axis=-1)


def at_pixel(maps, row, column):
    """What maps `(B, H, W, ...)` hold at one place, `(B, ...)`; row and column are tensors."""
    height, width = maps.shape[1:3]
    flat = ops.reshape(maps, (-1, height * width, *maps.shape[3:]))
    return ops.take(flat, row * width + column, axis=1)


def with_pixel(images, row, column, pixel):
    """Images with `pixel`, `(B, channels)`, at one place."""
    height, width = images.shape[1:3]
    here = ops.logical_and(
        ops.equal(ops.arange(height), row)[:, None], ops.equal(ops.arange(width), column)[None]
    )
    return ops.where(here[None, :, :, None], pixel[:, None, None], images)


def _by_rows(model, images, rows, noise):
    step, size = model.compiled_hook(model.draw_rows), model.rows_a_step
    state, drawn = model.start_rows(images.shape[0]), []
    for top in _bar(range(0, images.shape[1], size)):
        part = slice(top, top + size)
        keep = ops.convert_to_tensor(np.arange(top, top + size) < rows)
        state, values = step(state, images[:, part], keep, noise[:, part])
        drawn.append(values)
    return ops.concatenate(drawn, axis=1)


def _bar(rows):
    return tqdm(rows, desc="rows", leave=False, disable=None)  # on a terminal alone


def _number(i):
    return ops.convert_to_tensor(i, dtype="int32")


def _check(model, images, rows):
    if tuple(images.shape[1:]) != tuple(model.image_shape):
        raise ValueError(
            f"`images` must have shape (B, {', '.join(map(str, model.image_shape))}), that of the "
            f"method. Received: images.shape={tuple(images.shape)}. Resize them."
        )
    if not 0 <= rows <= images.shape[1]:
        raise ValueError(
            f"`rows` must be from 0 to the height, {images.shape[1]}. Received: rows={rows}."
        )
