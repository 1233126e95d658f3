"""NICE: the likelihood of images by additive couplings, which keep volumes.

Dinh, Krueger and Bengio 2014, https://arxiv.org/abs/1410.8516 (sections 3 and 5). Departures from
the authors' code: the scales start from data, and move three times as fast under Adam
(`layers.flows.ActNorm`); whitening pools the eigenvalues that few images do not tell; mirrored
images.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers.coupling_networks import dense_network
from keras_ssl.layers.couplings import AdditiveCoupling
from keras_ssl.layers.flows import ActNorm, Chain, Flatten, Rescale, Whitening
from keras_ssl.layers.starting import has_started, start_flag
from keras_ssl.methods import flows


@keras.saving.register_keras_serializable("keras_ssl")
class NICE(SSLModel):
    """Map images to independent variables: shifts of one half of the values by the other, a scale.

    The values of 2 y - 1, y = (k + u) / 256 for 8-bit values k and uniform noise u, are one vector,
    colours innermost. Couplings shift its odd places by a function of the even ones, and in turn;
    they have determinant 1. Then every value has a scale exp(s_d). With z = f(y) and p the density
    of a standard logistic or normal variable,

        L = mean_i sum_d ( -log p(z_id) - s_d ) + D log 128,

    in nats, which bounds -log P(k) from above. The scales start from the first 256 images, at the
    first epoch (`begin_epoch`), so that z has variance 1.

    With `whitening`, as the paper does with colour photographs, the vector is first whitened by a
    fixed map W, and -log |det W| is added. W is made before the first epoch from all images and
    their mirror images, with as many eigenvalues of their covariance as half of the images, and the
    mean of the others. It has D^2 numbers and costs D^3 operations, about half a minute on two
    cores for the 3,072 values of 32 px. Likelihoods are then far better in short runs, but features
    tell nothing of classes: all directions of the images weigh the same.

    `encode` gives the last hidden layer (ReLU) of the network of the last coupling: it predicts
    half of the values from the other half, and must know what is in the image; z itself has all of
    an image's information, but none of it arranged. There is no feature map.

    The defaults train on a CPU; the paper's CIFAR-10 model has `width=2000`, `depth=4` and
    `whitening=True`.

    Args:
        input_shape: (height, width, channels), an even number of values.
        num_couplings: >= 2; fewer leave half of the values unseen.
        width: units of the hidden layers of couplings, >= 1.
        depth: hidden layers of a coupling, >= 1.
        prior: "logistic" or "normal".
        whitening: whether images are whitened.
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
    image_side = 32
    half_precision = False
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        input_shape,
        num_couplings: int = 4,
        width: int = 512,
        depth: int = 3,
        prior: str = "logistic",
        whitening: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        _check(self.input_shape, num_couplings, width, depth, prior)
        self.num_couplings, self.width, self.depth = num_couplings, width, depth
        self.prior, self.whitening = prior, whitening
        self.flow = nice_flow(self.input_shape, num_couplings, width, depth, whitening)
        self.started = start_flag(self)
        features = flows.encoder(self.input_shape, self.flow.steps[:-1])
        self.backbone = backbones.Backbone(features, name="nice_features")

    def begin_epoch(self, source):
        """Make the whitening from all images and start the scales, before the first epoch alone.

        Raises:
            ValueError: if there are no images to start from, and they have had no start.
        """
        if source is not None and not has_started(self.started):
            for step in self.flow.steps:
                if isinstance(step, Whitening):
                    mean, covariance = flows.moments(source, self.input_shape)
                    step.fit(2.0 * mean - 1.0, 4.0 * covariance, source.size // 2)  # of 2 y - 1
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
        """`count` images of z from the prior: float32 in [0, 1], of 8-bit values."""
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
        """Adam at 1e-3, beta_2 0.99 and epsilon 1e-4, at any batch size."""
        return keras.optimizers.Adam(1e-3, beta_2=0.99, epsilon=1e-4)


def nice_flow(image_shape, num_couplings, width, depth, whitening=False, dtype="float32"):
    """The flow of NICE, built: images `(B, *image_shape)` to vectors `(B, D)`."""
    half = math.prod(image_shape) // 2
    couplings = [
        AdditiveCoupling(
            dense_network(half, width, depth, half, dtype),
            "alternating",
            number % 2 == 1,
            dtype=dtype,
        )
        for number in range(num_couplings)
    ]
    first = [Rescale(2.0, -1.0, dtype=dtype), Flatten(dtype=dtype)]
    if whitening:
        first.append(Whitening(dtype=dtype))
    flow = Chain([*first, *couplings, ActNorm(center=False, dtype=dtype)], dtype=dtype)
    flow.build((None, *image_shape))
    return flow


def _check(image_shape, num_couplings, width, depth, prior):
    if math.prod(image_shape) % 2:
        raise ValueError(
            "NICE halves the values of an image: their number must be even. Received: "
            f"input_shape={image_shape}. Use an even height or width."
        )
    if num_couplings < 2:
        raise ValueError(
            f"`num_couplings` must be >= 2. Received: num_couplings={num_couplings}: one moves "
            "only half of the values."
        )
    for name, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}.")
    if prior not in flows.PRIORS:
        raise ValueError(f"`prior` must be one of {flows.PRIORS}. Received: prior={prior!r}.")
