"""Further operations of SimCLR's study of augmentations: turn, cut out, add noise, draw edges.

Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 3 and figure 4. Called as
`op(image, seed)` like those of `transforms`: uint8 or float in [0, 1] in, float32 in [0, 1] out.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_ssl.views import image_ops
from keras_ssl.views.config import Configured, check_probability, check_range
from keras_ssl.views.transforms import sometimes


@keras.saving.register_keras_serializable("keras_ssl")
class QuarterTurns(Configured):
    """The image turned counter-clockwise by 90, 180 or 270 degrees with probability `p`.

    With p = 0.75 all four directions are equally likely. Images must be square to keep their shape.
    """

    def __init__(self, p: float = 0.75) -> None:
        self.p = check_probability("p", p)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, turned or not."""
        image = image_ops.to_float(image)
        if image.shape[0] is None or image.shape[0] != image.shape[1]:
            raise ValueError(
                "`QuarterTurns` takes square images of known size. "
                f"Received: shape={image.shape}. Put a square crop before it."
            )
        draws = image_ops.uniforms(seed, 2)
        turns = 1 + tf.cast(3.0 * draws[1], tf.int32)
        return sometimes(
            self.p,
            draws[0],
            lambda: tf.ensure_shape(tf.image.rot90(image, turns), image.shape),
            image,
        )


@keras.saving.register_keras_serializable("keras_ssl")
class Cutout(Configured):
    """A rectangle of the image replaced by grey (0.5), with probability `p`.

    Its area is that of `image_ops.draw_crop`, and it lies inside the image. DeVries and Taylor
    2017, https://arxiv.org/abs/1708.04552, with random sizes in the place of one.

    Args:
        p: probability.
        scale: smallest and largest area, as a share of the image's.
        ratio: smallest and largest width / height.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self, p: float = 1.0, scale: Sequence[float] = (0.1, 0.3), ratio: Sequence[float] = (0.5, 2)
    ) -> None:
        self.p = check_probability("p", p)
        self.scale, self.ratio = check_range("scale", scale), check_range("ratio", ratio)
        if self.scale[1] > 1:
            raise ValueError(f"`scale` must not exceed 1, the whole image. Received: {scale}.")

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, with a hole or not."""
        image = image_ops.to_float(image)
        coin_seed, box_seed = image_ops.split_seed(seed, 2)
        coin = image_ops.uniforms(coin_seed, 1)[0]
        return sometimes(self.p, coin, lambda: self._cut(image, box_seed), image)

    def _cut(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        top, left, height, width = image_ops.draw_crop(
            seed, shape[0], shape[1], self.scale, self.ratio
        )
        rows, columns = tf.range(shape[0])[:, None], tf.range(shape[1])[None]
        inside = (rows >= top) & (rows < top + height)
        inside &= (columns >= left) & (columns < left + width)
        return tf.where(inside[..., None], 0.5, image)


@keras.saving.register_keras_serializable("keras_ssl")
class GaussianNoise(Configured):
    """Noise N(0, sigma^2) added to every value, cut off at 0 and 1, with probability `p`.

    Args:
        p: probability.
        sigma: smallest and largest standard deviation, of images in [0, 1]; uniform between.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, p: float = 1.0, sigma: Sequence[float] = (0.02, 0.2)) -> None:
        self.p, self.sigma = check_probability("p", p), check_range("sigma", sigma)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image`, noisy or not."""
        image = image_ops.to_float(image)
        draw_seed, noise_seed = image_ops.split_seed(seed, 2)
        draws = image_ops.uniforms(draw_seed, 2)
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * draws[1]

        def noisy() -> tf.Tensor:
            noise = tf.random.stateless_normal(tf.shape(image), noise_seed)
            return tf.ensure_shape(image_ops.clip(image + sigma * noise), image.shape)

        return sometimes(self.p, draws[0], noisy, image)


@keras.saving.register_keras_serializable("keras_ssl")
class Sobel(Configured):
    """The steepness of every channel in the place of the channel, with probability `p`.

        sqrt(gx^2 + gy^2) / 4, at most 1,

    with gx, gy the answers of Sobel's 3x3 filters (an edge from 0 to 1 gives 4; edges of the image
    are mirrored).
    """

    def __init__(self, p: float = 1.0) -> None:
        self.p = check_probability("p", p)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`image` or its edges."""
        image = image_ops.to_float(image)
        coin = image_ops.uniforms(seed, 1)[0]

        def edges() -> tf.Tensor:
            gradients = tf.image.sobel_edges(image[None])[0]
            return tf.minimum(tf.norm(gradients, axis=-1) / 4.0, 1.0)

        return sometimes(self.p, coin, edges, image)
