"""RealNVP: the likelihood of images by affine couplings at several scales.

Dinh, Sohl-Dickstein and Bengio 2016, https://arxiv.org/abs/1605.08803 (sections 3 and 4).
Departures from the authors' code: activation normalisation in the place of batch normalisation,
after couplings and in their networks, and so no weight normalisation and no decay of its gains.
Batch statistics would make the likelihood of an image depend on the others, and its running
averages one in evaluation that was not trained; learned scales are the same in both, on any number
of replicas.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers.coupling_networks import residual_network
from keras_ssl.layers.couplings import AffineCoupling, half_shapes
from keras_ssl.layers.flows import ActNorm, Chain, Logit, MultiScale, Permutation, Squeeze
from keras_ssl.layers.starting import start_flag
from keras_ssl.methods import flows

_CLIP = 100.0  # of the gradient's norm, in nats


@keras.saving.register_keras_serializable("keras_ssl")
class RealNVP(SSLModel):
    """Map images to independent normal variables by couplings, each a shift and scale of one half.

    The logit of y = (k + u) / 256, with 8-bit values k and uniform noise u, runs through
    `num_scales` scales: three couplings of the two colours of a checkerboard, a squeeze of 2x2
    places into channels, three couplings of channels; then one diagonal of each block of 2x2 goes
    on to the next scale, and the other is done. The last scale has four couplings of a
    checkerboard. With z = f(y) of as many values as the image,

        L = mean_i ( -log N(z_i; 0, I) - log |det dz/dy|_i ) + D log 256,

    in nats, which bounds -log P(k) from above. Shift and scale come from residual networks; they
    are zero at first, and log-scales are bounded by a tanh and a learned factor a channel.

    The normalisation starts from the first 256 images, at the first epoch (`begin_epoch`). `encode`
    gives the hidden layer (ReLU) of the network of the last but one coupling of the first scale,
    the second of channels: networks predict half of the values from the other half, and must know
    what is in the image; z itself has all of an image's information, but none of it arranged.

    The defaults train on a CPU; the paper's CIFAR-10 model has `width=64` and `num_blocks=8`, that
    for 64 px `num_scales=5`, `width=32` and `num_blocks=2`.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 2^(num_scales-1).
        num_scales: >= 1.
        width: channels of the networks at the first resolution; they double where it halves, >= 1.
        num_blocks: residual blocks of a network, >= 1.
        alpha: pixels are squeezed into (alpha, 1 - alpha) before the logit, in (0, 0.5).
        remat: whether gradients compute the networks of couplings again, in the place of memory.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        pixel_noise: u, of the same shape, in [0, 1).

    Raises:
        ValueError: if an argument is outside its range.
    """

    family = "generative"
    batch_keys = ("views", "pixel_noise")
    likelihood_kind = "bound"
    image_side = 64
    half_precision = False
    prior = "normal"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-3)

    def __init__(
        self,
        input_shape,
        num_scales: int = 2,
        width: int = 16,
        num_blocks: int = 1,
        alpha: float = 0.05,
        remat: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        _check(self.input_shape, num_scales, width, num_blocks)
        self.num_scales, self.width, self.num_blocks = num_scales, width, num_blocks
        self.alpha, self.remat = alpha, remat
        self.flow = real_nvp_flow(self.input_shape, num_scales, width, num_blocks, alpha, remat)
        self.started = start_flag(self)
        features = _encoder(self.flow, self.input_shape)
        self.backbone = backbones.Backbone(features, name="real_nvp_features")

    def begin_epoch(self, source):
        """Start the activation normalisation from the first images, before the first epoch alone.

        Raises:
            ValueError: if there are no images to start from, and it has had no start.
        """
        flows.start_once(self, source)

    def compute_losses(self, batch, training):
        """The bound of the global batch, in nats an image."""
        (images,) = batch["views"]
        nats = flows.code_lengths(self, images, batch["pixel_noise"])
        return {"loss": ops.mean(distribute.all_gather(nats))}

    def log_prob(self, images, seed=0):
        """Lower bound of log P of 8-bit images, from one draw of the noise.

        Args:
            images: `(B, height, width, channels)`, uint8 or float in [0, 1] (rounded to 8 bits).
            seed: of the noise.

        Returns:
            float32 `(B,)`, in nats.
        """
        return flows.log_prob(self, images, seed)

    def sample(self, count, seed=0):
        """`count` images of z ~ N(0, I): float32 in [0, 1], of 8-bit values."""
        return self.compiled_hook(self.decode)(flows.draw(self, count, seed))

    def interpolate(self, first, second, steps):
        """Images on the line in z from each of `first` to its partner in `second`, both included.

        Returns:
            float32 in [0, 1], `(B, steps, height, width, channels)`.
        """
        return flows.lines(self, first, second, steps)

    def decode(self, z):
        """The images of latents `(B, D)`: float32 in [0, 1], of 8-bit values."""
        return flows.decoded(self, z)

    def default_views(self, image_size):
        """The image, mirrored or not, and the noise."""
        return flows.with_noise(self.input_shape, image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """Adam at 1e-3, at any batch size; gradients are clipped to a norm of 100."""
        return keras.optimizers.Adam(1e-3, global_clipnorm=_CLIP)


def real_nvp_flow(
    image_shape, num_scales, width, num_blocks, alpha=0.05, remat=False, dtype="float32"
):
    """The flow of RealNVP, built: images `(B, *image_shape)` to vectors `(B, D)`."""

    def couplings(shape, split, width, count):
        layers = []
        for number in range(count):
            flip = number % 2 == 1
            seen, moved = half_shapes(shape, split, flip)
            network = residual_network(seen, width, num_blocks, 2 * moved[-1], dtype)
            coupling = AffineCoupling(network, split, flip, remat=remat, dtype=dtype)
            layers += [coupling, ActNorm(dtype=dtype)]
        return layers

    height, side, channels = image_shape
    levels = []
    for scale in range(num_scales):
        steps = [] if scale else [Logit(alpha, dtype=dtype), ActNorm(dtype=dtype)]
        last = scale == num_scales - 1
        steps += couplings((height, side, channels), "checkerboard", width, 4 if last else 3)
        if not last:
            steps.append(Squeeze(dtype=dtype))
            squeezed = (height // 2, side // 2, 4 * channels)
            steps += couplings(squeezed, "halves", 2 * width, 3)
            steps.append(Permutation(_diagonals(channels), dtype=dtype))
            height, side, channels, width = height // 2, side // 2, 2 * channels, 2 * width
        levels.append(Chain(steps, dtype=dtype))
    flow = MultiScale(levels, dtype=dtype)
    flow.build((None, *image_shape))
    return flow


def _diagonals(channels):
    """Order of squeezed channels in which the falling diagonals of the 2x2 blocks come first.

    So what stays and what leaves are the two colours of a checkerboard of the places before the
    squeeze.
    """
    return [4 * channel + place for place in (0, 3, 1, 2) for channel in range(channels)]


def _encoder(flow, image_shape):
    """The hidden layer of the last but one coupling of the first scale."""
    steps = flow.levels[0].steps
    couplings = [place for place, step in enumerate(steps) if isinstance(step, AffineCoupling)]
    return flows.encoder(image_shape, steps[: couplings[-2] + 1])


def _check(image_shape, num_scales, width, num_blocks):
    sizes = {"num_scales": num_scales, "width": width, "num_blocks": num_blocks}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}.")
    factor = 2 ** (num_scales - 1)
    if any(side % factor for side in image_shape[:2]):
        raise ValueError(
            f"Height and width must be multiples of 2^(num_scales-1) = {factor}. Received: "
            f"input_shape={image_shape}. Use fewer scales or another image size."
        )
    if max(image_shape[:2]) == factor:
        raise ValueError(
            "The checkerboard of the last scale needs two places at least. Received: "
            f"num_scales={num_scales} for input_shape={image_shape}, which leaves one. Use fewer."
        )
