"""RandAugment: a few operations out of fifteen, each at random, all at about one magnitude.

Cubuk et al. 2019, https://arxiv.org/abs/1909.13719. And PIRL's sequence of four of them. Called as
`op(image, seed)` like those of `transforms`: uint8 or float in [0, 1] in, float32 in [0, 1] out.
"""

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_ssl.views import image_ops
from keras_ssl.views.config import Configured, check_probability
from keras_ssl.views.transforms import sometimes

_MAX = 10.0  # the magnitude at which every operation is at the end of its range
_IMAGENET_MEAN = (0.485, 0.456, 0.406)


@keras.saving.register_keras_serializable("keras_ssl")
class RandAugment(Configured):
    """`count` operations drawn with replacement, each carried out with probability `p`.

    The magnitude of each is drawn from N(magnitude, deviation^2) and limited to [0, 10]. With m a
    tenth of it, operations are: stretch every channel to [0, 1]; equalise its histogram; invert;
    turn by +-30 m degrees; keep `int(4 m)` bits; invert values from `m` up; add 0.43 m to values
    below one half; colour, contrast, brightness and sharpness times 0.1 + 1.8 m; shear by +-0.3 m
    along x or y; shift by +-0.45 m of the side along x or y. Pixels from outside the image have the
    colour `fill`.

    These are the operations and ranges of InfoMin's views (Tian et al. 2020,
    https://arxiv.org/abs/2005.10243, and the authors' code). Departures from the authors' code:
    movements are bilinear (theirs bilinear or bicubic at random); values are not rounded to 8 bits
    between operations.

    Args:
        count: operations an image, >= 1.
        magnitude: mean of the magnitudes, in [0, 10].
        deviation: their standard deviation, >= 0.
        p: probability that a drawn operation is carried out.
        fill: one number in [0, 1] for all channels or one for each; None is ImageNet's mean colour
            for three channels, else 0.5.

    Raises:
        ValueError: if an argument is out of range, or `fill` does not fit the image.
    """

    def __init__(
        self,
        count: int = 2,
        magnitude: float = 10.0,
        deviation: float = 0.5,
        p: float = 0.5,
        fill: float | Sequence[float] | None = None,
    ) -> None:
        if count < 1 or not 0 <= magnitude <= _MAX or deviation < 0:
            raise ValueError(
                "`count` must be >= 1, `magnitude` in [0, 10] and `deviation` >= 0. Received: "
                f"count={count}, magnitude={magnitude}, deviation={deviation}."
            )
        self.count, self.magnitude, self.deviation = count, magnitude, deviation
        self.p = check_probability("p", p)
        self.fill = fill if fill is None or isinstance(fill, int | float) else tuple(fill)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image` after the operations drawn from `seed`."""
        image = image_ops.to_float(image)
        fill = self._fill(image_ops.num_channels(image))
        for own in image_ops.split_seed(seed, self.count):
            draw_seed, level_seed = image_ops.split_seed(own, 2)
            draws = image_ops.uniforms(draw_seed, 3)
            noise = tf.random.stateless_normal([], level_seed)
            level = image_ops.clip((self.magnitude + self.deviation * noise) / _MAX)
            sign = tf.where(draws[1] < 0.5, -1.0, 1.0)
            chosen = tf.cast(len(OPERATIONS) * draws[2], tf.int32)

            # Defaults bind this turn's tensors: TensorFlow traces the branches later.
            def apply(x=image, chosen=chosen, level=level, sign=sign) -> tf.Tensor:
                branches = [
                    lambda op=op: tf.ensure_shape(op(x, level, sign, fill), x.shape)
                    for op in OPERATIONS.values()
                ]
                return tf.switch_case(chosen, branches)

            image = sometimes(self.p, draws[0], apply, image)
        return image

    def _fill(self, channels: int) -> list[float]:
        fill = self.fill
        if fill is None:
            return list(_IMAGENET_MEAN) if channels == 3 else [0.5] * channels
        fill = [fill] * channels if isinstance(fill, int | float) else fill
        if len(fill) != channels:
            raise ValueError(
                f"`fill` must be one number or one for each channel. Received: fill={self.fill} "
                f"for {channels} channels."
            )
        return list(fill)


@keras.saving.register_keras_serializable("keras_ssl")
class Photometric(Configured):
    """PIRL's four changes one after the other, with probability `p` for all of them together.

    Keep 4 to 8 of the bits of each value; sharpness times U(0.1, 1.9); invert values from a
    threshold up, a whole number from 0 to 256 (of 255); stretch every channel to [0, 1]. All draws
    are uniform. Misra and van der Maaten 2019, https://arxiv.org/abs/1912.01991; the authors' code,
    VISSL. Images must be larger than 2 pixels.
    """

    def __init__(self, p: float = 0.66) -> None:
        self.p = check_probability("p", p)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, changed or not."""
        image = image_ops.to_float(image)
        draws = image_ops.uniforms(seed, 4)

        def change() -> tf.Tensor:
            changed = posterize(image, 4 + tf.cast(5.0 * draws[1], tf.int32))
            changed = sharpness(changed, 0.1 + 1.8 * draws[2])
            changed = image_ops.solarize(changed, tf.floor(257.0 * draws[3]) / 255.0)
            return tf.ensure_shape(auto_contrast(changed), image.shape)

        return sometimes(self.p, draws[0], change, image)


def auto_contrast(image: tf.Tensor) -> tf.Tensor:
    """Every channel stretched to [0, 1]; a channel of one value stays as it is."""
    low = tf.reduce_min(image, axis=(0, 1), keepdims=True)
    spread = tf.reduce_max(image, axis=(0, 1), keepdims=True) - low
    return tf.where(spread > 0, tf.math.divide_no_nan(image - low, spread), image)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Histogram equalisation of each channel, in 256 levels (Pillow's)."""
    levels = tf.cast(tf.round(image * 255.0), tf.int32)
    channels = [_equalize(channel) for channel in tf.unstack(levels, axis=-1)]
    return tf.cast(tf.stack(channels, axis=-1), tf.float32) / 255.0


def _equalize(levels: tf.Tensor) -> tf.Tensor:
    counts = tf.math.bincount(tf.reshape(levels, [-1]), minlength=256, maxlength=256)
    # Pillow's `ImageOps.equalize`, integer arithmetic included: the brightest level in use is left
    # out of the step, and an image of one level stays as it is.
    brightest = counts[tf.reduce_max(levels)]
    step = (tf.reduce_sum(counts) - brightest) // 255
    table = (step // 2 + tf.cumsum(counts, exclusive=True)) // tf.maximum(step, 1)
    return tf.where(step > 0, tf.gather(tf.minimum(table, 255), levels), levels)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """The `bits` highest of each value's 8 bits kept, the others zero."""
    step = tf.cast(tf.bitwise.left_shift(1, 8 - bits), tf.float32)
    return tf.floor(tf.round(image * 255.0) / step) * step / 255.0


def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """`addition` added to values below one half."""
    return tf.where(image < 128 / 255, tf.minimum(image + addition, 1.0), image)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Distance from the smoothed image times `factor`; the outermost pixels stay (Pillow's)."""
    channels = image_ops.num_channels(image)
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, channels, 1])
    inner = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]
    difference = tf.pad(image[1:-1, 1:-1] - inner, [[1, 1], [1, 1], [0, 0]])
    return image_ops.clip(image + (factor - 1.0) * difference)


def move(image: tf.Tensor, matrix: Sequence, fill: Sequence[float]) -> tf.Tensor:
    """The image whose point (x, y) is `image`'s point (a x + b y + c, d x + e y + f).

    Coordinates are in pixels from the upper left corner of the image, not of its first pixel.

    Args:
        image: float `(H, W, C)`.
        matrix: (a, b, c, d, e, f), numbers or scalar tensors.
        fill: colour of points outside `image`, one number for each channel.
    """
    a, b, c, d, e, f = (tf.convert_to_tensor(value, tf.float32) for value in matrix)
    # The kernel counts from the centre of the first pixel, half a pixel from the image's corner. It
    # fills with one number only, so the colour is taken away before and added again.
    row = [a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, tf.zeros(()), tf.zeros(())]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=(image - fill)[None],
        transforms=tf.stack(row)[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return image_ops.clip(moved[0] + fill)


def rotate(image: tf.Tensor, radians: tf.Tensor, fill: Sequence[float]) -> tf.Tensor:
    """The image turned counter-clockwise about its centre."""
    size = tf.cast(tf.shape(image), tf.float32)
    x, y = size[1] / 2, size[0] / 2
    cos, sin = tf.cos(radians), tf.sin(radians)
    return move(image, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), fill)


def _along(axis: int) -> Callable:
    """Shift by a share of the side along x (0) or y (1)."""

    def shift(image, level, sign, fill):
        pixels = sign * 0.45 * level * tf.cast(tf.shape(image)[1 - axis], tf.float32)
        return move(image, (1, 0, 0, 0, 1, pixels) if axis else (1, 0, pixels, 0, 1, 0), fill)

    return shift


def _factor(level: tf.Tensor) -> tf.Tensor:
    return 0.1 + 1.8 * level


OPERATIONS = {
    "auto_contrast": lambda x, m, sign, fill: auto_contrast(x),
    "equalize": lambda x, m, sign, fill: equalize(x),
    "invert": lambda x, m, sign, fill: 1.0 - x,
    "rotate": lambda x, m, sign, fill: rotate(x, sign * m * math.pi / 6, fill),
    "posterize": lambda x, m, sign, fill: posterize(x, tf.cast(4.0 * m, tf.int32)),
    "solarize": lambda x, m, sign, fill: image_ops.solarize(x, tf.floor(256.0 * m) / 255.0),
    "solarize_add": lambda x, m, sign, fill: solarize_add(x, tf.floor(110.0 * m) / 255.0),
    "color": lambda x, m, sign, fill: image_ops.blend_saturation(x, _factor(m)),
    "contrast": lambda x, m, sign, fill: image_ops.blend_contrast(x, _factor(m)),
    "brightness": lambda x, m, sign, fill: image_ops.adjust_brightness(x, _factor(m)),
    "sharpness": lambda x, m, sign, fill: sharpness(x, _factor(m)),
    "shear_x": lambda x, m, sign, fill: move(x, (1, sign * 0.3 * m, 0, 0, 1, 0), fill),
    "shear_y": lambda x, m, sign, fill: move(x, (1, 0, 0, sign * 0.3 * m, 1, 0), fill),
    "shift_x": _along(0),
    "shift_y": _along(1),
}
