r"""Autoencoder (Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647).

    python -m recipes.autoencoder --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.autoencoder --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.autoencoder --preset=imagenet --data_dir=path/to/tfds --out=runs/3

What to expect of `cifar10_small`: its row of `benchmarks/RESULTS.md`; the other presets have not
been run. Ten epochs of 5,000 images are too short: features are then no better than those of random
weights ("Five lines" there).

Departures from the paper: convolutional networks on colour photographs; the paper does not train on
these data, so the settings are ours.
"""

from keras_ssl import Autoencoder
from recipes import _runner
from recipes._runner import CIFAR_IMAGES, IMAGENET_IMAGES, SMALL, Config

RECIPE = _runner.Recipe(
    Autoencoder,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(**CIFAR_IMAGES),
        "imagenet": Config(**IMAGENET_IMAGES),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
