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
    if antialias:
        scale = tf.constant(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=list(size),
            scale=scale,
            translation=[0.0, 0.0],
            kernel_type=name,
            antialias=True,
        )
    else:
        resized = kernel(images=image[None], size=list(size), half_pixel_centers=True)
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
    draws = uniforms(seed, 8 + num_channels(image))
    brighten, spread, saturate = JITTER_FORMS[form]

    def factor(index: int, strength: float) -> tf.Tensor:
        low = max(0.0, 1.0 - strength)
        return low + (1.0 + strength - low) * draws[index]

    def light(x: tf.Tensor) -> tf.Tensor:
        if brighten is add_brightness:
            return brighten(x, brightness * (2.0 * draws[0] - 1.0))
        return brighten(x, factor(0, brightness))

    # Every operation has its own number, whether it is carried out or not: switching one off does
    # not change what the others draw.
    steps = [
        (brightness, light),
        (contrast, lambda x: spread(x, factor(1, contrast))),
        (saturation, lambda x: saturate(x, factor(2, saturation))),
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
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None], [1, channels])
    mode = "SAME" if padding == "zeros" else "VALID"
    blurred = image
    for axis, weights in ((0, kernel[:, None, :, None]), (1, kernel[None, :, :, None])):
        outer = _extend(blurred, axis, radius, padding)
        blurred = tf.nn.depthwise_conv2d(outer[None], weights, [1, 1, 1, 1], mode)[0]
    return tf.minimum(blurred, 1.0)


def _extend(image: tf.Tensor, axis: int, count: int, padding: str) -> tf.Tensor:
    """`count` pixels more on both sides of an axis; none for "zeros", which convolutions add."""
    if padding == "zeros" or count == 0:
        return image
    if padding == "reflect":
        around = [[count, count] if own == axis else [0, 0] for own in range(3)]
        return tf.raw_ops.MirrorPad(input=image, paddings=around, mode="REFLECT")
    first, last = (image[:1], image[-1:]) if axis == 0 else (image[:, :1], image[:, -1:])
    copies = [count if own == axis else 1 for own in range(3)]
    return tf.concat([tf.tile(first, copies), image, tf.tile(last, copies)], axis)


def solarize(image: tf.Tensor, threshold: float) -> tf.Tensor:
    """Values from `threshold` up inverted: 1 - value."""
    return tf.where(image >= threshold, 1.0 - image, image)
