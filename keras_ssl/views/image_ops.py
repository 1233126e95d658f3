"""Seeded, stateless operations on one image.

Each result is a function of the image, its parameters and, for `random_*`, a seed. Images are
float32 `(H, W, C)` in [0, 1] unless a function says that uint8 will do; C must be known when the
graph is made. Every function keeps [0, 1]. A seed is an int32 tensor of two numbers.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from keras_ssl.views import xla

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


def resize(
    image: tf.Tensor,
    size: Sequence[int],
    interpolation: str = "bicubic",
    antialias: bool = False,
) -> tf.Tensor:
    """Image of `size` (height, width) as float32, from uint8 or float.

    "bicubic" is Keys' kernel with a = -0.5, pixel centres at half integers; overshoot is cut off at
    0 and 1. With `antialias` the kernel of a side that shrinks is as many times wider as the side
    shrinks (Pillow's `resize`); without, it always spans two or four pixels (SimCLR's and BYOL's
    code). A side that grows is the same in both.
    """
    kernels = {
        "bicubic": (tf.raw_ops.ResizeBicubic, "keyscubic"),
        "bilinear": (tf.raw_ops.ResizeBilinear, "triangle"),
    }
    if interpolation not in kernels:
        raise ValueError(
            f"`interpolation` must be one of {list(kernels)}. Received: {interpolation!r}."
        )
    kernel, name = kernels[interpolation]
    # The kernels take uint8 and give float32: the result is scaled, as it is usually smaller.
    unit = 1 / 255 if image.dtype == tf.uint8 else 1.0

    def plain() -> tf.Tensor:
        return kernel(images=image[None], size=list(size), half_pixel_centers=True)

    def smooth() -> tf.Tensor:
        return tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=list(size),
            scale=tf.constant(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32),
            translation=[0.0, 0.0],
            kernel_type=name,
            antialias=True,
        )

    if antialias:  # where nothing shrinks, the general kernel does the same in twice the time
        resized = tf.cond(tf.reduce_any(tf.shape(image)[:2] > list(size)), smooth, plain)
    else:
        resized = plain()
    resized = clip(resized[0] * unit)
    resized.set_shape((*size, num_channels(image)))
    return resized


def random_resized_crop(
    image: tf.Tensor,
    seed: tf.Tensor,
    size: Sequence[int],
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str = "bicubic",
    antialias: bool = False,
) -> tf.Tensor:
    """A random box of the image (uint8 or float; `draw_crop`), resized to `size`."""
    shape = tf.shape(image)
    top, left, height, width = draw_crop(seed, shape[0], shape[1], scale, ratio)
    channels = num_channels(image)
    box = tf.slice(image, tf.stack([top, left, 0]), tf.stack([height, width, channels]))
    box.set_shape((None, None, channels))
    return resize(box, size, interpolation, antialias)


def horizontal_flip(image: tf.Tensor) -> tf.Tensor:
    """Left and right exchanged."""
    return tf.reverse(image, [1])


def adjust_brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`image * factor`, cut off at 1 (SimCLR v2's and torchvision's form; v1 added a number)."""
    return tf.minimum(image * factor, 1.0)


def add_brightness(image: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """`image + delta`, cut to [0, 1] (BYOL's form)."""
    return clip(image + delta)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Every channel spread about its own mean: `mean + factor * (image - mean)`, cut to [0, 1].

    TensorFlow's form: the channels' means, the colour cast of the image, stay.
    """
    return clip(tf.raw_ops.AdjustContrastv2(images=image, contrast_factor=factor))


def blend_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """All channels spread about one mean, that of the grey image, cut to [0, 1].

    torchvision's form: a factor below 1 also shrinks the differences of the channels' means. The
    mean is that of torchvision's tensors; Pillow rounds it to a whole number of 255.
    """
    means = tf.reduce_mean(image, axis=(0, 1))
    mean = tf.reduce_sum(means * _grey_weights(num_channels(image)))
    return clip(image * factor + (1.0 - factor) * mean)


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Saturation times `factor`, TensorFlow's form.

    Three channels: S of HSV is multiplied and cut off at 1, so that the largest channel of a pixel
    stays. Other counts: `blend_saturation`.
    """
    if num_channels(image) != 3:
        return blend_saturation(image, factor)
    return tf.raw_ops.AdjustSaturation(images=image, scale=factor)


def _contrast_formula(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`adjust_contrast` written out, for XLA."""
    mean = tf.reduce_mean(image, axis=(0, 1))
    return clip(mean + factor * (image - mean))


def _saturation_formula(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`adjust_saturation` of three channels written out, for XLA.

    With V = max and S = (max - min) / max of the channels, a pixel becomes V + (pixel - V) * k with
    k = min(factor, 1 / S).
    """
    value, chroma = _value_and_chroma(*tf.unstack(image, axis=-1))
    share = tf.minimum(factor, value / tf.maximum(chroma, 1e-7))[..., None]
    return clip(value[..., None] * (1.0 - share) + image * share)


def _hue_formula(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """`rotate_hue` written out without branches, for XLA.

    With the hue h in turns, a channel whose own hue is o (0, 1/3, 2/3) has the value
    V - C clip(6 d - 1, 0, 1), d the distance of h and o on the circle.
    """
    red, green, blue = tf.unstack(image, axis=-1)
    value, chroma = _value_and_chroma(red, green, blue)
    is_red, is_green = value == red, value == green
    side = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    start = tf.where(is_red, 0.0, tf.where(is_green, 1 / 3, 2 / 3))
    hue = start + side / (6.0 * tf.maximum(chroma, 1e-20)) + turn
    away = hue[..., None] - tf.constant([0.0, 1 / 3, 2 / 3])
    away = tf.abs(away - tf.round(away))
    return value[..., None] - chroma[..., None] * clip(6.0 * away - 1.0)


def _value_and_chroma(
    red: tf.Tensor, green: tf.Tensor, blue: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The largest of three channels, and by how much it exceeds the smallest."""
    value = tf.maximum(red, tf.maximum(green, blue))
    return value, value - tf.minimum(red, tf.minimum(green, blue))


def blend_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Each pixel spread about its grey value, `grey + factor * (pixel - grey)`, cut to [0, 1].

    torchvision's form; grey as `grayscale`. One channel has no saturation and stays as it is.
    """
    channels = num_channels(image)
    if channels == 1:
        return image
    # One matrix product mixes and blends at once: grey + factor * (identity - grey).
    grey = _grey_mixing(channels)
    same = [[float(row == column) for column in range(channels)] for row in range(channels)]
    mixing = grey + factor * (tf.constant(same) - grey)
    return clip(tf.reshape(tf.reshape(image, (-1, channels)) @ mixing, tf.shape(image)))


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


JITTER_FORMS = {
    "tensorflow": (adjust_brightness, adjust_contrast, adjust_saturation),
    "torchvision": (adjust_brightness, blend_contrast, blend_saturation),
    "byol": (add_brightness, adjust_contrast, adjust_saturation),
}
# What XLA is given in the place of TensorFlow's kernels, which it compiles badly.
_FORMULAS = {
    adjust_contrast: _contrast_formula,
    adjust_saturation: _saturation_formula,
    rotate_hue: _hue_formula,
}


def random_color_jitter(
    image: tf.Tensor,
    seed: tf.Tensor,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    form: str = "tensorflow",
) -> tf.Tensor:
    """Brightness, contrast, saturation and hue changed in random order, each result in [0, 1].

    A strength a gives the factor U(max(0, 1 - a), 1 + a), and BYOL's brightness the summand
    U(-a, a); `hue` is a fraction of a full turn, see `random_hue`. `form` is a key of
    `JITTER_FORMS`.
    """
    channels = num_channels(image)
    draws = uniforms(seed, 8 + channels)
    brighten, spread, saturate = JITTER_FORMS[form]

    def between(low: float, high: float, index: int) -> tf.Tensor:
        return low + (high - low) * draws[index]

    def factor(strength: float, index: int) -> tf.Tensor:
        return between(max(0.0, 1.0 - strength), 1.0 + strength, index)

    light = factor(brightness, 0)
    if brighten is add_brightness:
        light = between(-brightness, brightness, 0)
    # Every operation has its own number, whether it is carried out or not: switching one off does
    # not change what the others draw.
    steps = [
        (brightness, brighten, light),
        (contrast, spread, factor(contrast, 1)),
        (saturation, saturate, factor(saturation, 2)),
        (hue, rotate_hue, between(-hue, hue, 8)),
    ]
    if channels != 3:  # one channel has neither saturation nor hue; others have `random_hue`
        shift = (hue, lambda x, gains: random_hue(x, gains, hue), draws[8:])
        steps = steps[:2] if channels == 1 else [*steps[:3], shift]
    steps = [step for step in steps if step[0] > 0]
    if not steps:
        return image
    order = tf.argsort(draws[4 : 4 + len(steps)])
    if channels == 3 and len(steps) > 1 and xla.usable(image):
        formulas = [_FORMULAS.get(change, change) for _, change, _ in steps]
        return xla.in_order(image, formulas, tf.stack([own for *_, own in steps]), order)
    return _in_order(
        image, [lambda x, c=change, own=own: c(x, own) for _, change, own in steps], order
    )


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
    mixed = tf.reshape(image, (-1, channels)) @ _grey_mixing(channels)
    return tf.minimum(tf.reshape(mixed, tf.shape(image)), 1.0)


def _grey_weights(channels: int) -> tuple[float, ...]:
    """What each channel adds to the grey value."""
    return _LUMA if channels == 3 else (1 / channels,) * channels


def _grey_mixing(channels: int) -> tf.Tensor:
    """Matrix `(channels, channels)` that makes the grey image of rows of pixels."""
    return tf.constant([[weight] * channels for weight in _grey_weights(channels)])


PADDINGS = ("zeros", "edge", "reflect")


def gaussian_blur(
    image: tf.Tensor, sigma: tf.Tensor, kernel_size: int, padding: str = "zeros"
) -> tf.Tensor:
    """Separable Gaussian of `sigma` pixels.

    The kernel is cut off at `kernel_size` pixels; an even number is raised by one. Outside the
    image are zeros, the outermost pixels ("edge"), or the mirror image without them ("reflect":
    c b | a b c; at most height - 1 or width - 1 pixels, the kernel is shortened to that).
    """
    channels, radius = num_channels(image), kernel_size // 2
    if padding == "reflect":
        radius = min(radius, *(side - 1 for side in image.shape[:2] if side))
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-tf.square(offsets) / (2.0 * tf.square(sigma)))
    kernel /= tf.reduce_sum(kernel)
    fused = xla.usable(image)
    for axis in (0, 1):
        image = _extend(image, axis, radius, padding)
        if fused:
            image = xla.correlate(image, kernel, axis)
        else:
            weights = tf.tile(kernel[:, None], [1, channels])
            weights = weights[:, None, :, None] if axis == 0 else weights[None, :, :, None]
            image = tf.nn.depthwise_conv2d(image[None], weights, [1, 1, 1, 1], "VALID")[0]
    return tf.minimum(image, 1.0)


def _extend(image: tf.Tensor, axis: int, count: int, padding: str) -> tf.Tensor:
    """`count` pixels more on both sides of an axis."""
    if count == 0:
        return image
    if padding == "edge":
        first, last = (image[:1], image[-1:]) if axis == 0 else (image[:, :1], image[:, -1:])
        copies = [count if own == axis else 1 for own in range(3)]
        return tf.concat([tf.tile(first, copies), image, tf.tile(last, copies)], axis)
    around = [[count, count] if own == axis else [0, 0] for own in range(3)]
    if padding == "reflect":
        return tf.raw_ops.MirrorPad(input=image, paddings=around, mode="REFLECT")
    return tf.pad(image, around)


def solarize(image: tf.Tensor, threshold: float) -> tf.Tensor:
    """Values from `threshold` up inverted: 1 - value."""
    return tf.where(image >= threshold, 1.0 - image, image)
