"""Glow: the likelihood of images by a flow with invertible 1x1 convolutions.

Kingma and Dhariwal 2018, https://arxiv.org/abs/1807.03039 (section 3; appendices A and B).
Departures from the authors' code: the LU form of the 1x1 convolution; convolutions pad with zeros
alone; Adam (the paper's; their code's default is Adamax); the first normalisation absorbs the shift
of pixels by 1/2; mirrored images, no shifted ones.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers.coupling_networks import glow_network, linear_network
from keras_ssl.layers.couplings import AffineCoupling
from keras_ssl.layers.flows import ActNorm, Chain, Invertible1x1, MultiScale, Squeeze
from keras_ssl.layers.starting import start_flag
from keras_ssl.methods import flows


@keras.saving.register_keras_serializable("keras_ssl")
class Glow(SSLModel):
    """Map images to independent normal variables by steps that can be undone exactly.

    A step is activation normalisation, an invertible 1x1 convolution of the channels and an affine
    coupling. A level squeezes 2x2 places into channels, makes K steps and lets go of half of the
    channels; L levels make z of as many values as the image has. With y = (k + u) / 256 for the
    8-bit values k and uniform noise u,

        L = mean_i ( -log N(z_i; 0, I) - log |det dz/dy|_i ) + D log 256,    z = f(y),

    in nats, which bounds -log P(k) from above. A learned mean and scale of the half that leaves,
    given the half that stays, are the last coupling of a level; those of the last level's channels
    its last normalisation. So the priors of the paper are part of f here, and z is standard normal.

    The normalisation starts from the first 256 images, at the first epoch (`begin_epoch`). `encode`
    gives the hidden layer (ReLU) of the network of the middle step of the first level: networks
    predict half of the values from the other half, and must know what is in the image; z itself has
    all of an image's information, but none of it arranged. Of all couplings these features are
    among the best for classes, but not better than before training: images that are likely are not
    images that are understood.

    The defaults train on a CPU; the paper's CIFAR-10 model has `num_steps=32` and `width=512`, 44
    million weights.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 2^num_levels.
        num_levels: L, >= 1.
        num_steps: K, of a level, >= 1.
        width: channels of the hidden layers of couplings.
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
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        input_shape,
        num_levels: int = 3,
        num_steps: int = 4,
        width: int = 64,
        remat: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        _check(self.input_shape, num_levels, num_steps, width)
        self.num_levels, self.num_steps, self.width = num_levels, num_steps, width
        self.remat = remat
        self.flow = glow_flow(self.input_shape, num_levels, num_steps, width, remat)
        self.started = start_flag(self)
        middle = 4 + 3 * (num_steps // 2)  # layers up to the coupling, the squeeze included
        features = flows.encoder(self.input_shape, self.flow.levels[0].steps[:middle])
        self.backbone = backbones.Backbone(features, name="glow_features")

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

    def sample(self, count, seed=0, temperature=1.0):
        """`count` images of z ~ N(0, temperature^2 I): float32 in [0, 1], of 8-bit values.

        The paper shows samples of temperature 0.7: likelier images, less different ones.
        """
        return self.compiled_hook(self.decode)(temperature * flows.draw(self, count, seed))

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
        """Adam at 1e-3 after a linear warm-up of 10 epochs, at any batch size."""
        warmup = self.warmup_steps(total_steps)
        return keras.optimizers.Adam(optimizers.WarmupDrops(1e-3, (), warmup_steps=warmup))


def glow_flow(image_shape, num_levels, num_steps, width, remat=False, dtype="float32"):
    """The flow of Glow, built: images `(B, *image_shape)` to vectors `(B, D)`."""
    height, side, channels = image_shape
    levels = []
    for level in range(num_levels):
        height, side, channels = height // 2, side // 2, 4 * channels
        half = (height, side, channels // 2)
        steps = [Squeeze(dtype=dtype)]
        for _ in range(num_steps):
            network = glow_network(half, width, channels, dtype)
            coupling = AffineCoupling(network, scale="sigmoid", remat=remat, dtype=dtype)
            steps += [ActNorm(dtype=dtype), Invertible1x1(dtype=dtype), coupling]
        if level < num_levels - 1:  # p(the half that leaves | the half that stays)
            channels //= 2
            prior = linear_network(half, 2 * channels, dtype)
            steps.append(AffineCoupling(prior, scale="exp", dtype=dtype))
        else:
            steps.append(ActNorm(from_data=False, dtype=dtype))
        levels.append(Chain(steps, dtype=dtype))
    flow = MultiScale(levels, dtype=dtype)
    flow.build((None, *image_shape))
    return flow


def _check(image_shape, num_levels, num_steps, width):
    for name, value in (("num_levels", num_levels), ("num_steps", num_steps), ("width", width)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}.")
    if any(side % 2**num_levels for side in image_shape[:2]):
        raise ValueError(
            f"Height and width must be multiples of 2^num_levels = {2**num_levels}. Received: "
            f"input_shape={image_shape}. Use fewer levels or another image size."
        )
