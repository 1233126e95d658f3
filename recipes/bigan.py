r"""BiGAN (Donahue, Krahenbuhl, Darrell 2017, https://arxiv.org/abs/1605.09782).

    python -m recipes.bigan --preset=cifar10_small --data_dir=path/to/tfds --out=runs/bigan-small
    python -m recipes.bigan --preset=cifar10 --data_dir=path/to/tfds --out=runs/bigan-cifar10
    python -m recipes.bigan --preset=imagenet --data_dir=path/to/tfds --out=runs/bigan-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The other presets need GPUs
and have not been run. Losses start at 2 ln 2 = 1.386; the discriminator's falls below it, that of
encoder and generator rises above, and neither says how good features or reconstructions are.

Departures from the paper: those of the method; `cifar10_small` is a small budget of our own, with
networks of half the width and the method's rate for short runs; `cifar10` is not in the paper;
`imagenet` is the authors' 64-pixel command for all classes, with ResNet-18 in the place of AlexNet,
and a Dense layer more in the discriminator.
"""

from keras_ssl import BiGAN
from keras_ssl.layers.decoders import conv_decoder, num_stages
from keras_ssl.layers.discriminators import pair_discriminator
from recipes import _runner
from recipes._runner import SMALL, Config


def networks(config, backbone):
    """Generator and discriminator with `width` in the place of their largest width, 512."""
    if config.width is None:
        return {}
    shape, latent_dim = backbone.image_shape, config.options["latent_dim"]
    halvings, narrowing = num_stages(config.image_size), 512 // config.width
    return {
        "generator": conv_decoder(
            latent_dim,
            shape,
            widths=[min(512, 32 * 2**i) // narrowing for i in range(halvings, -1, -1)],
            activation="sigmoid",
            name="generator",
        ),
        "discriminator": pair_discriminator(
            shape,
            latent_dim,
            widths=[min(512, 64 * 2**i) // narrowing for i in range(halvings)],
            hidden=config.width,
        ),
    }


RECIPE = _runner.Recipe(
    BiGAN,
    {
        "cifar10_small": Config(
            **SMALL | {"batch_size": 64},
            width=256,
            options={"latent_dim": 64},
        ),
        "cifar10": Config(batch_size=128),
        "imagenet": Config(
            data="imagenet2012",
            image_size=64,
            batch_size=128,
            epochs=100,
            options={"latent_dim": 200},
        ),
    },
    networks,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
