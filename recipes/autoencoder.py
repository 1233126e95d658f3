r"""Autoencoder (Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647).

    python -m recipes.autoencoder --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.autoencoder --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.autoencoder --preset=imagenet --data_dir=path/to/tfds --out=runs/3

No preset has been run. What a new user gets in ten epochs is in `benchmarks/RESULTS.md`, "Five
lines": features that are no better than those of random weights.

Departures from the paper: convolutional networks on colour photographs; the paper does not train on
these data, so the settings are ours.
"""

from keras_ssl import Autoencoder
from recipes import _runner
from recipes._runner import SMALL, Config

RECIPE = _runner.Recipe(
    Autoencoder,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128, epochs=100, warmup_epochs=1),
        "imagenet": Config(
            data="imagenet2012",
            image_size=64,
            batch_size=128,
            epochs=50,
            warmup_epochs=1,
            options={"latent_dim": 256},
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
