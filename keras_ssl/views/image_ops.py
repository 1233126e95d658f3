"""Seeded, stateless operations on one image.

Each result is a function of the image, its parameters and, for `random_*`, a seed. Images are
float32 `(H, W, C)` in [0, 1] unless a function says that uint8 will do; C must be known when the
graph is made. Every function keeps [0, 1]. A seed is an int32 tensor of two numbers.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CROP_ATTEMPTS = 10  # torchvision's; then a central crop

# `tf.raw_ops` stand where the public function adds several kernels of checks and conversions: at
# 32 px an image costs about as much in kernel launches as in arithmetic.


def uniforms(seed: tf.Tensor, count: int) -> tf.Tensor:
    """`count` float32 numbers, uniform in [0, 1): one kernel (`stateless_uniform`: five)."""
    return tf.raw_ops.StatelessRandomUniform(shape=[count], seed=seed, dtype=tf.float32)


def split_seed(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """`count` independent seeds from one."""
    seeds = tf.raw_ops.StatelessRandomUniformFullInt(shape=[count, 2], seed=seed, dtype=tf.int32)
    return tf.unstack(seeds)


def to_float(image: tf.Tensor) -> tf.Tensor:
    """Float32 in [0, 1] from uint8 (divided by 255) or from a float already in [0, 1]."""
    if image.dtype == tf.uint8:
        return tf.cast(image, tf.float32) * (1 / 255)
    return tf.cast(image, tf.float32)


def clip(image: tf.Tensor) -> tf.Tensor:
    """Values limited to [0, 1]."""
    return tf.raw_ops.ClipByValue(t=image, clip_value_min=0.0, clip_value_max=1.0)


def num_channels(image: tf.Tensor) -> int:
    """Static number of channels of an image.

    Raises:
        ValueError: if it is not known when the graph is made.
    """
    if image.shape.rank != 3 or image.shape[-1] is None:
        raise ValueError(
            "`image` must be of shape (height, width, channels) with a known number of channels. "
            f"Received: shape={image.shape}. Call `image.set_shape((None, None, channels))` before."
        )
    return image.shape[-1]


def draw_crop(
    seed: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    scale: Sequence[float],
    ratio: Sequence[float],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Top, left, height and width of a random box, as int32, within an image of `height` x `width`.

    Area / (height * width) ~ U(scale) and log(box width / box height) ~ U(log ratio), drawn
    together until the box fits, 10 times at most; then the largest central box whose ratio is
    allowed. The place is uniform. (Inception's crop as torchvision draws it; the authors of SimCLR
    call TensorFlow's `sample_distorted_bounding_box`, which draws the ratio itself uniformly.)
    """
    # All attempts are drawn at once and the first that fits is taken: no loop in the graph.
    draws = uniforms(seed, 2 * _CROP_ATTEMPTS + 2)
    full_height, full_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    share = scale[0] + (scale[1] - scale[0]) * draws[:_CROP_ATTEMPTS]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = tf.exp(low + (high - low) * draws[_CROP_ATTEMPTS:-2])
    area = full_height * full_width * share
    heights, widths = tf.round(tf.sqrt(area / shape)), tf.round(tf.sqrt(area * shape))
    fallback = tf.clip_by_value(full_width / full_height, ratio[0], ratio[1])
    heights = tf.concat([heights, [tf.minimum(full_height, tf.round(full_width / fallback))]], 0)
    widths = tf.concat([widths, [tf.minimum(full_width, tf.round(full_height * fallback))]], 0)
    # The fallback stands last and always fits, so argmax, which returns the first True, finds one.
    fits = (heights <= full_height) & (widths <= full_width) & (heights >= 1) & (widths >= 1)
    first = tf.argmax(fits, output_type=tf.int32)
    box_height, box_width = heights[first], widths[first]
    central = first == _CROP_ATTEMPTS
    place = tf.where(central, tf.constant([0.5, 0.5]), draws[-2:])
    top = tf.floor(place[0] * (full_height - box_height + 1))
    left = tf.floor(place[1] * (full_width - box_width + 1))
    return tuple(tf.cast(value, tf.int32) for value in (top, left, box_height, box_width))


def resize(image: tf.Tensor, size: Sequence[int], interpolation: str = "bicubic") -> tf.Tensor:
    """Image of `size` (height, width) as float32, from uint8 or float.

    No antialiasing when it shrinks, as in SimCLR's code.

    "bicubic" is Keys' kernel with a = -0.5, pixel centres at half integers; overshoot is cut off at
    0 and 1.
    """
    kernels = {"bicubic": tf.raw_ops.ResizeBicubic, "bilinear": tf.raw_ops.ResizeBilinear}
    if interpolation not in kernels:
        raise ValueError(
            f"`interpolation` must be one of {list(kernels)}. Received: {interpolation!r}."
        )
    # The kernels take uint8 and give float32: the result is scaled, as it is usually smaller.
    unit = 1 / 255 if image.dtype == tf.uint8 else 1.0
    kernel = kernels[interpolation]
    resized = clip(kernel(images=image[None], size=list(size), half_pixel_centers=True)[0] * unit)
    resized.set_shape((*size, num_channels(image)))
    return resized


def random_resized_crop(
    image: tf.Tensor,
    seed: tf.Tensor,
    size: Sequence[int],
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str = "bicubic",
) -> tf.Tensor:
    """A random box of the image (uint8 or float; `draw_crop`), resized to `size`."""
    shape = tf.shape(image)
    top, left, height, width = draw_crop(seed, shape[0], shape[1], scale, ratio)
    channels = num_channels(image)
    box = tf.slice(image, tf.stack([top, left, 0]), tf.stack([height, width, channels]))
    box.set_shape((None, None, channels))
    return resize(box, size, interpolation)


def horizontal_flip(image: tf.Tensor) -> tf.Tensor:
    """Left and right exchanged."""
    return tf.reverse(image, [1])


def adjust_brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`image * factor`, cut off at 1 (SimCLR v2's and torchvision's form; v1 added a number)."""
    return tf.minimum(image * factor, 1.0)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Every channel spread about its own mean: `mean + factor * (image - mean)`, cut to [0, 1]."""
    return clip(tf.raw_ops.AdjustContrastv2(images=image, contrast_factor=factor))


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Saturation times `factor`.

    Three channels: S of HSV is multiplied and cut off at 1 (as in SimCLR's code). Other counts:
    each pixel is spread about the mean of its channels, `mean + factor * (pixel - mean)`, cut off
    at 0 and 1. One channel has no saturation and stays as it is.
    """
    channels = num_channels(image)
    if channels == 1:
        return image
    if channels == 3:
        return _scale_hsv_saturation(image, factor)
    mean = tf.reduce_mean(image, axis=-1, keepdims=True)
    return clip(mean + factor * (image - mean))


def _scale_hsv_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """HSV's S times `factor`, at most 1, without a way through HSV.

    With V = max and S = (max - min) / max of the channels, a pixel becomes V + (pixel - V) * k with
    k = min(factor, 1 / S).
    """
    red, green, blue = tf.split(image, 3, axis=-1)
    value = tf.maximum(red, tf.maximum(green, blue))
    chroma = value - tf.minimum(red, tf.minimum(green, blue))
    share = tf.minimum(factor, value / tf.maximum(chroma, 1e-7))
    return clip(value * (1.0 - share) + image * share)


def rotate_hue(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Hue of a three-channel image moved by `turn` full turns in HSV."""
    return tf.raw_ops.AdjustHue(images=image, delta=turn)


def random_hue(image: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Colour shifted at random; `draws` are C uniform numbers.

    Three channels: hue moves by U(-strength, strength) of a turn. Other counts above one have no
    hue: every channel gets its own gain, U(1 - 2 * strength, 1 + 2 * strength), which moves the
    channels of an ordinary photograph about as far. One channel stays as it is.
    """
    channels = num_channels(image)
    if channels == 1:
        return image
    centred = 2.0 * draws[:channels] - 1.0
    if channels == 3:
        return rotate_hue(image, strength * centred[0])
    return clip(image * (1.0 + 2.0 * strength * centred))


def random_color_jitter(
    image: tf.Tensor,
    seed: tf.Tensor,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> tf.Tensor:
    """Brightness, contrast, saturation and hue changed in random order, each result in [0, 1].

    A strength a gives the factor U(max(0, 1 - a), 1 + a); `hue` is a fraction of a full turn, see
    `random_hue`.
    """
    draws = uniforms(seed, 8 + num_channels(image))

    def factor(index: int, strength: float) -> tf.Tensor:
        low = max(0.0, 1.0 - strength)
        return low + (1.0 + strength - low) * draws[index]

    # Every operation has its own number, whether it is carried out or not: switching one off does
    # not change what the others draw.
    steps = [
        (brightness, lambda x: adjust_brightness(x, factor(0, brightness))),
        (contrast, lambda x: adjust_contrast(x, factor(1, contrast))),
        (saturation, lambda x: adjust_saturation(x, factor(2, saturation))),
        (hue, lambda x: random_hue(x, draws[8:], hue)),
    ]
    limit = 2 if num_channels(image) == 1 else 4  # one channel has neither saturation nor hue
    steps = [step for strength, step in steps[:limit] if strength > 0]
    return _in_order(image, steps, tf.argsort(draws[4 : 4 + len(steps)])) if steps else image


def _in_order(image: tf.Tensor, steps: list, order: tf.Tensor) -> tf.Tensor:
    """Apply `steps` in the given order."""
    for slot in range(len(steps)):
        # Default arguments bind this turn's values; a plain closure would see the last turn's.
        branches = [lambda step=step, x=image: step(x) for step in steps]
        image = tf.switch_case(order[slot], branches) if len(steps) > 1 else branches[0]()
    return image


def grayscale(image: tf.Tensor) -> tf.Tensor:
    """Luma (three channels, ITU-R BT.601) or the channels' mean, repeated in every channel."""
    channels = num_channels(image)
    if channels == 1:
        return image
    # One matrix product mixes and repeats at once; luma weights may sum to a hair above 1.
    weights = _LUMA if channels == 3 else (1 / channels,) * channels
    mixing = tf.constant([[weight] * channels for weight in weights])
    return tf.minimum(tf.reshape(tf.reshape(image, (-1, channels)) @ mixing, tf.shape(image)), 1.0)


def gaussian_blur(image: tf.Tensor, sigma: tf.Tensor, kernel_size: int) -> tf.Tensor:
    """Separable Gaussian of `sigma` pixels, with zeros outside the image.

    The kernel is cut off at `kernel_size` pixels; an even number is raised by one.
    """
    channels = num_channels(image)
    radius = kernel_size // 2
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-tf.square(offsets) / (2.0 * tf.square(sigma)))
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None], [1, channels])
    rows = tf.nn.depthwise_conv2d(image[None], kernel[:, None, :, None], [1, 1, 1, 1], "SAME")
    blurred = tf.nn.depthwise_conv2d(rows, kernel[None, :, :, None], [1, 1, 1, 1], "SAME")[0]
    return tf.minimum(blurred, 1.0)


def solarize(image: tf.Tensor, threshold: float) -> tf.Tensor:
    """Values from `threshold` up inverted: 1 - value."""
    return tf.where(image >= threshold, 1.0 - image, image)
