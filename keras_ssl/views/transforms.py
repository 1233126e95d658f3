"""Serialisable view operations, each called as `op(image, seed)`.

They take one image `(H, W, C)`, uint8 or float in [0, 1].
They return float32 in [0, 1]. The same seed gives the same result, so an operation keeps no state;
`Compose` gives each its own seed.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_ssl.views import geometry, image_ops
from keras_ssl.views.config import (
    Configured,
    check_choice,
    check_probability,
    check_range,
    check_size,
)


def sometimes(
    probability: float, coin: tf.Tensor, apply: Callable[[], tf.Tensor], image: tf.Tensor
) -> tf.Tensor:
    """`apply()` where the uniform number `coin` lies below `probability`, else `image`."""
    # Decided while the graph is made where it can be: most operations of a preset are certain.
    if probability >= 1:
        return apply()
    if probability <= 0:
        return image
    return tf.cond(coin < probability, apply, lambda: image)


@keras.saving.register_keras_serializable("keras_ssl")
class RandomResizedCrop(Configured):
    """A random box of the image, resized; see `image_ops.draw_crop`.

    Args:
        image_size: height and width of the result, in pixels: one number or two.
        scale: smallest and largest area of the box, as a share of the image's.
        ratio: smallest and largest width / height of the box.
        interpolation: "bicubic" or "bilinear".
        antialias: whether the kernel widens where the box is larger than the result, as Pillow's;
            see `image_ops.resize`. It changes nothing where images are no larger than the result.

    Raises:
        ValueError: if a size or range is invalid, or the interpolation is unknown.
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
        antialias: bool = False,
    ) -> None:
        self.image_size = check_size("image_size", image_size)
        self.scale, self.ratio = check_range("scale", scale), check_range("ratio", ratio)
        if self.scale[1] > 1:
            raise ValueError(f"`scale` must not exceed 1, the whole image. Received: {scale}.")
        self.interpolation = check_choice("interpolation", interpolation, ("bicubic", "bilinear"))
        self.antialias = bool(antialias)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The crop of `image` for `seed`."""
        return image_ops.random_resized_crop(
            image,
            seed,
            self.image_size,
            self.scale,
            self.ratio,
            self.interpolation,
            self.antialias,
        )


@keras.saving.register_keras_serializable("keras_ssl")
class CenterCrop(Configured):
    """The central part of the image in `image_size`, the same for every seed.

    Resized (bilinear, smoothed) only where needed, so that 8-bit values of images that have the
    size already stay multiples of 1/255; see `geometry.center_crop`.
    """

    def __init__(self, image_size: int | Sequence[int]) -> None:
        self.image_size = check_size("image_size", image_size)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The central part of `image`."""
        return geometry.center_crop(image, self.image_size)


@keras.saving.register_keras_serializable("keras_ssl")
class PadAndCrop(Configured):
    """A random part of the image with `padding` zeros put around it: shifts by a few pixels.

    Args:
        image_size: height and width of the result, in pixels: one number or two.
        padding: pixels added on every side, >= 0; 4 is usual for CIFAR-10.

    Raises:
        ValueError: if an argument is out of range, or the padded image is known to be too small.
    """

    def __init__(self, image_size: int | Sequence[int], padding: int = 4) -> None:
        self.image_size = check_size("image_size", image_size)
        if padding < 0:
            raise ValueError(
                f"`padding` must be >= 0. Received: padding={padding}. Use 0 for a plain crop."
            )
        self.padding = padding

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The crop of `image` that `seed` stands for."""
        # A side may be None in the graph: then only the slice itself can fail.
        padded = [side and side + 2 * self.padding for side in image.shape[:2]]
        if any(side and side < wanted for side, wanted in zip(padded, self.image_size)):
            raise ValueError(
                "`image_size` must fit into the padded image. "
                f"Received: image_size={self.image_size}, padding={self.padding} and an image of "
                f"{tuple(image.shape[:2])}. Pad more, or put `CenterCrop(image_size)` before."
            )
        image = image_ops.to_float(image)
        return geometry.pad_and_crop(image, seed, self.image_size, self.padding)


@keras.saving.register_keras_serializable("keras_ssl")
class HorizontalFlip(Configured):
    """Left and right exchanged with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability("p", p)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image` or its mirror image."""
        image = image_ops.to_float(image)
        coin = image_ops.uniforms(seed, 1)[0]
        return sometimes(self.p, coin, lambda: image_ops.horizontal_flip(image), image)


@keras.saving.register_keras_serializable("keras_ssl")
class ColorJitter(Configured):
    """Brightness, contrast, saturation and hue changed in random order, with probability `p`.

    See `image_ops.random_color_jitter`.

    Args:
        brightness: strength a of the factor U(max(0, 1 - a), 1 + a); 0 leaves brightness alone.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift, as a fraction of a full turn, at most 0.5.
        p: probability that anything is changed at all.
        form: whose operations. "tensorflow" (SimCLR's code): brightness is multiplied; contrast
            spreads each channel about its own mean, which keeps a colour cast; saturation
            multiplies S of HSV. "torchvision" (the authors who use PyTorch): contrast spreads all
            channels about the mean of the grey image, which shrinks or widens a colour cast, too;
            saturation spreads each pixel about its grey value. "byol" (BYOL's code): as
            "tensorflow", but brightness is a summand, U(-a, a). Hue turns in HSV in all of them.

    Raises:
        ValueError: if a strength is negative, `hue` exceeds 0.5, `p` is not a probability or `form`
            is unknown.
    """

    def __init__(
        self,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        p: float = 0.8,
        form: str = "tensorflow",
    ) -> None:
        if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
            raise ValueError(
                "Strengths must be >= 0 and `hue` <= 0.5. Received: "
                f"brightness={brightness}, contrast={contrast}, saturation={saturation}, hue={hue}."
            )
        self.brightness, self.contrast = float(brightness), float(contrast)
        self.saturation, self.hue = float(saturation), float(hue)
        self.p = check_probability("p", p)
        self.form = check_choice("form", form, image_ops.JITTER_FORMS)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image` with its colours changed."""
        image = image_ops.to_float(image)
        if self.p >= 1:
            return self._jitter(image, seed)
        coin_seed, jitter_seed = image_ops.split_seed(seed, 2)
        coin = image_ops.uniforms(coin_seed, 1)[0]
        return sometimes(self.p, coin, lambda: self._jitter(image, jitter_seed), image)

    def _jitter(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return image_ops.random_color_jitter(
            image, seed, self.brightness, self.contrast, self.saturation, self.hue, self.form
        )


@keras.saving.register_keras_serializable("keras_ssl")
class Grayscale(Configured):
    """Channels replaced by their luma (of three) or mean (other counts), with probability `p`."""

    def __init__(self, p: float = 0.2) -> None:
        self.p = check_probability("p", p)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image` or its grey form, of as many channels."""
        image = image_ops.to_float(image)
        coin = image_ops.uniforms(seed, 1)[0]
        return sometimes(self.p, coin, lambda: image_ops.grayscale(image), image)


@keras.saving.register_keras_serializable("keras_ssl")
class GaussianBlur(Configured):
    """Gaussian blur of random width with probability `p`; see `image_ops.gaussian_blur`.

    Args:
        p: probability.
        sigma: smallest and largest standard deviation in pixels; uniform between.
        kernel_size: pixels; an even number is raised by one. Default: a tenth of the image's
            height, rounded down.
        padding: what lies outside the image: "zeros" (SimCLR's and BYOL's code, which so darkens
            borders), its outermost pixels, "edge" (Pillow), or its mirror image, "reflect" (OpenCV,
            PyContrast).

    Raises:
        ValueError: if an argument is out of range, or `kernel_size` is None and the image's height
            is not known in the graph.
    """

    def __init__(
        self,
        p: float = 0.5,
        sigma: Sequence[float] = (0.1, 2.0),
        kernel_size: int | None = None,
        padding: str = "zeros",
    ) -> None:
        self.p = check_probability("p", p)
        self.sigma = check_range("sigma", sigma)
        if kernel_size is not None and kernel_size < 1:
            raise ValueError(f"`kernel_size` must be >= 1. Received: kernel_size={kernel_size}.")
        self.kernel_size = kernel_size
        self.padding = check_choice("padding", padding, image_ops.PADDINGS)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, blurred or not."""
        image = image_ops.to_float(image)
        if self.kernel_size is None and image.shape[0] is None:
            raise ValueError(
                "`kernel_size` is needed for images of unknown height. "
                "Put the blur behind a crop, or give kernel_size."
            )
        kernel_size = self.kernel_size or image.shape[0] // 10
        draws = image_ops.uniforms(seed, 2)
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * draws[1]
        return sometimes(
            self.p,
            draws[0],
            lambda: image_ops.gaussian_blur(image, sigma, kernel_size, self.padding),
            image,
        )


@keras.saving.register_keras_serializable("keras_ssl")
class Solarize(Configured):
    """Values from `threshold` up inverted, with probability `p`.

    0.5 is 128 of uint8. BYOL (appendix B): p = 0.2 in one of the two views.
    """

    def __init__(self, p: float = 0.2, threshold: float = 0.5) -> None:
        self.p = check_probability("p", p)
        self.threshold = float(threshold)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, solarised or not."""
        image = image_ops.to_float(image)
        coin = image_ops.uniforms(seed, 1)[0]
        return sometimes(self.p, coin, lambda: image_ops.solarize(image, self.threshold), image)
