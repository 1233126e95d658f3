"""BiGAN: an encoder learned as the inverse of a generator, by a discriminator of pairs.

Donahue, Krahenbuhl, Darrell 2017, https://arxiv.org/abs/1605.09782 (section 3). Departures from the
authors' code: the discriminator takes its step first, encoder and generator against the new one
(theirs: at the same time); losses are not halved; z is Gaussian and the encoding batch-normalised,
which gives it the scale of z (theirs: uniform z, and encodings squashed into its range by
2 sigmoid(t) - 1); in the generator z enters the first layer alone (theirs: every layer), and its
upsampling is by repeated pixels (theirs: strided transposed convolutions). Those of the
discriminator stand in `keras_ssl.layers.discriminators`.
"""

import contextlib

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads, norm
from keras_ssl.layers.decoders import conv_decoder
from keras_ssl.layers.discriminators import pair_discriminator
from keras_ssl.ops import decode_lines, to_unit_range


@keras.saving.register_keras_serializable("keras_ssl")
class BiGAN(SSLModel):
    """Discriminate (image, encoding) from (generated image, latent); train both to fool it.

    With E the encoder (backbone and head), G the generator, D(x, z) the discriminator's logit,
    x an image, z ~ N(0, I) and softplus(t) = log(1 + exp(t)),

        L_D  = mean softplus(-D(x, E(x))) + mean softplus(D(G(z), z)),
        L_EG = mean softplus(D(x, E(x))) + mean softplus(-D(G(z), z)).

    If D cannot tell the pairs apart, E is the inverse of G (paper, theorem 2), and both losses are
    2 log 2. A training step is one step of D on L_D, then one of E and G together on L_EG with
    the new D, on the same batch. Batch normalisation of all networks uses the batch in both turns,
    and in D the real and the fake pairs by themselves. Running statistics of E and G move in both
    turns, twice a step; those of D in its own alone, with the real and then with the fake pairs.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        encoder_head: `keras.Model` from the pooled features to z; by default one Dense layer and
            batch normalisation without gain and offset. One that leaves the scale of encodings free
            lets it grow without bound: D's statistics divide by it, but the generator's input is
            then of another scale than z.
        generator: `keras.Model` from z to images in [0, 1]; by default
            `keras_ssl.layers.decoders.conv_decoder` with a sigmoid.
        discriminator: `keras.Model` from [images, z] to one logit; by default
            `keras_ssl.layers.discriminators.pair_discriminator`.
        latent_dim: width of z.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        latent_noise: z, `(batch, latent_dim)`.

    Raises:
        ValueError: if `latent_dim` is not positive or a network has other shapes.
    """

    family = "adversarial"
    loss_names = ("loss", "discriminator_loss")
    batch_keys = ("views", "latent_noise")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=1e-3)
    half_precision = False  # tried once: in bfloat16 it did not begin to reconstruct

    def __init__(
        self,
        backbone,
        encoder_head: keras.Layer | None = None,
        generator: keras.Layer | None = None,
        discriminator: keras.Layer | None = None,
        latent_dim: int = 128,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if latent_dim < 1:
            raise ValueError(f"`latent_dim` must be >= 1. Received: latent_dim={latent_dim}.")
        self.backbone, self.latent_dim = backbones.adopt(backbone), latent_dim
        shape = self.image_shape
        self.encoder_head = encoder_head or heads.mlp(
            self.backbone.feature_dim,
            (latent_dim,),
            output_norm="plain",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="encoder_head",
        )
        self.generator = generator or conv_decoder(
            latent_dim, shape, activation="sigmoid", name="generator"
        )
        self.discriminator = discriminator or pair_discriminator(shape, latent_dim)
        fix = "Change its last layer, or `latent_dim`."
        heads.check_output("encoder_head", self.encoder_head, (latent_dim,), fix)
        heads.check_output("generator", self.generator, shape, fix)
        heads.check_output("discriminator", self.discriminator, (1,), fix)

    @property
    def players(self):
        """The discriminator's variables, and those of encoder and generator together."""
        pair = (self.backbone, self.encoder_head, self.generator)
        return {
            "discriminator": self.discriminator.trainable_variables,
            "generator": [v for network in pair for v in network.trainable_variables],
        }

    def compute_losses(self, batch, training):
        """Both losses of the global batch, with the players as they stand."""
        real, fake = self._logits(batch, training)
        return {
            "loss": losses.joint_generator_loss(real, fake),
            "discriminator_loss": losses.discriminator_loss(real, fake),
        }

    def update(self, batch):
        """One step of the discriminator, then one of encoder and generator against it."""
        discriminator_losses = self.minimize(
            lambda: {"loss": losses.discriminator_loss(*self._logits(batch, True))},
            self.players["discriminator"],
            self.optimizer_of("discriminator"),
        )
        generator_losses = self.minimize(
            lambda: {"loss": losses.joint_generator_loss(*self._logits(batch, True, still=True))},
            self.players["generator"],
            self.optimizer_of("generator"),
        )
        return {**generator_losses, "discriminator_loss": discriminator_losses["loss"]}

    def latent(self, images):
        """E(x) in inference mode, float32 `(B, latent_dim)`."""
        return ops.cast(self._encode(to_unit_range(images), training=False), "float32")

    def reconstruct(self, images):
        """G(E(x)): what the generator makes of the encoding; float32 images in [0, 1]."""
        return ops.cast(self.generator(self.latent(images), training=False), "float32")

    def interpolate(self, first, second, steps):
        """G on the line between the encodings of two images, both included; in [0, 1]."""
        decode = lambda z: ops.cast(self.generator(z, training=False), "float32")  # noqa: E731
        return decode_lines(decode, self.latent(first), self.latent(second), steps)

    def sample(self, count, seed=0):
        """G(z) for `count` draws of z ~ N(0, I): float32 images in [0, 1]."""
        z = keras.random.normal((count, self.latent_dim), seed=seed)
        return ops.cast(self.generator(z, training=False), "float32")

    def default_views(self, image_size):
        """The image, mirrored or not, and z."""
        noise = {"latent_noise": {"distribution": "normal", "shape": (self.latent_dim,)}}
        return views.WithNoise(views.plain(image_size), noise)

    def paper_optimizer(self, total_steps, batch_size):
        """Adam at 2e-4 with beta_1 = 0.5 for both players, falling to 1 % in the second half.

        L2 of 5e-5 on kernels: the authors' 2.5e-5 is that of losses half as large, and Adam's step
        is the same if loss and decay are doubled. Theirs decays biases too.
        """
        return self._adam(2e-4, total_steps)

    def default_optimizer(self, total_steps, batch_size):
        """The paper's schedule and momenta at the rate of `short_run` where the run is short."""
        if total_steps < self.short_run.below:
            return self._adam(self.short_run.learning_rate, total_steps)
        return self.paper_optimizer(total_steps, batch_size)

    def _adam(self, peak, total_steps):
        schedule = optimizers.HoldExponential(peak, total_steps, total_steps // 2)
        adam = optimizers.Adam(schedule, beta_1=0.5, weight_decay=5e-5, exclude_1d=True)
        return optimizers.Players.like(adam, ("discriminator", "generator"))

    def _encode(self, images, training):
        return heads.chain(images, self.backbone, self.encoder_head, training=training)

    def _logits(self, batch, training, still=False):
        """D of the real and of the fake pairs of the global batch, `(N, 1)` each.

        With `still`, D's running statistics stay as they are: the turn is not its own.
        """
        images, z = map(ops.convert_to_tensor, (*batch["views"], batch["latent_noise"]))
        encodings = ops.cast(self._encode(images, training), "float32")
        fakes = ops.cast(self.generator(z, training=training), "float32")
        # Two passes, so that each kind has batch statistics of its own, as the authors' command.
        with norm.still() if still else contextlib.nullcontext():
            logits = (
                self.discriminator([x, latent], training=training)
                for x, latent in ((images, encodings), (fakes, z))
            )
            real, fake = (distribute.all_gather(ops.cast(own, "float32")) for own in logits)
        return real, fake
