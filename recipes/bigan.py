r"""BiGAN (Donahue, Krahenbuhl, Darrell 2017, https://arxiv.org/abs/1605.09782).

    python -m recipes.bigan --preset=cifar10_small --data_dir=path/to/tfds --out=runs/bigan-small
    python -m recipes.bigan --preset=cifar10 --data_dir=path/to/tfds --out=runs/bigan-cifar10
    python -m recipes.bigan --preset=imagenet --data_dir=path/to/tfds --out=runs/bigan-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The other presets need GPUs
and have not been run. Losses start at 2 ln 2 = 1.386; the discriminator's falls below it, that of
encoder and generator rises above, and neither says how good the features are. After
`cifar10_small` (3,120 steps) features are better than those of the random encoder, but images are
not reconstructed: that takes the generator longer.

Departures from the paper: all of it with spectral normalisation in the discriminator and Gaussian
latents; `cifar10_small` is a small budget of our own, with networks of half the width; `imagenet`
is the paper's 64-pixel setting with ResNet-18 in the place of AlexNet.
"""

import dataclasses

import keras

from keras_ssl import BiGAN, backbones, optimizers, views
from keras_ssl.layers.decoders import conv_decoder, num_stages
from keras_ssl.layers.discriminators import pair_discriminator
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; the learning rates are constant."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    latent_dim: int = 128
    narrowing: int = 1  # divides the widths of generator and discriminator
    batch_size: int = 128
    epochs: int = 200
    learning_rate: float = 2e-4  # of encoder and generator
    discriminator_learning_rate: float = 2e-4
    beta_1: float = 0.5
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        latent_dim=64,
        narrowing=2,
        batch_size=64,
        epochs=20,
        learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
    ),
    "cifar10": Config(),
    "imagenet": Config(data="imagenet2012", image_size=64, latent_dim=200, epochs=100),
}


def make_views(config):
    """The image, mirrored or not, and the latents of generated ones."""
    noise = {"latent_noise": {"distribution": "normal", "shape": (config.latent_dim,)}}
    return views.WithNoise(views.plain((config.image_size, config.image_size)), noise)


def make_model(config, num_images):
    """The method with an optimizer for each player."""
    shape = (config.image_size, config.image_size, 3)
    scale, halvings = config.narrowing, num_stages(config.image_size)
    model = BiGAN(
        backbones.get(config.backbone, shape),
        generator=conv_decoder(
            config.latent_dim,
            shape,
            widths=[min(512, 32 * 2**i) // scale for i in range(halvings, -1, -1)],
            activation="sigmoid",
            name="generator",
        ),
        discriminator=pair_discriminator(
            shape,
            config.latent_dim,
            widths=[min(512, 64 * 2**i) // scale for i in range(halvings)],
            hidden=512 // scale,
        ),
        latent_dim=config.latent_dim,
    )
    adam = keras.optimizers.Adam
    model.compile(
        optimizers.Players(
            discriminator=adam(config.discriminator_learning_rate, beta_1=config.beta_1),
            generator=adam(config.learning_rate, beta_1=config.beta_1),
        )
    )
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
