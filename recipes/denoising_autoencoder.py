r"""Denoising autoencoder (Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294).

    python -m recipes.denoising_autoencoder --data_dir=path/to/tfds --out=runs/1  # cifar10_small
    python -m recipes.denoising_autoencoder --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.denoising_autoencoder --preset=imagenet --data_dir=path/to/tfds --out=runs/3

`--set=corruption=gaussian` or `salt_and_pepper` for the other kinds.
What to expect: the row of `benchmarks/RESULTS.md`; the other presets have not been run.

Departures from the paper: convolutional networks on colour photographs; the paper does not train on
these data, so the settings are ours.
"""

from keras_ssl import DenoisingAutoencoder
from recipes import _runner
from recipes._runner import CIFAR_IMAGES, IMAGENET_IMAGES, SMALL, Config

RECIPE = _runner.Recipe(
    DenoisingAutoencoder,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(**CIFAR_IMAGES),
        "imagenet": Config(**IMAGENET_IMAGES),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
