r"""SwAV (Caron et al. 2020, https://arxiv.org/abs/2006.09882).

    python -m recipes.swav --preset=shapes --out=runs/swav-shapes
    python -m recipes.swav --preset=cifar10_small --data_dir=path/to/tfds --out=runs/swav-small
    python -m recipes.swav --preset=cifar10 --data_dir=path/to/tfds --out=runs/swav-cifar10
    python -m recipes.swav --preset=imagenet_256 --data_dir=path/to/tfds --out=runs/swav-256
    python -m recipes.swav --preset=imagenet --data_dir=path/to/tfds --out=runs/swav-imagenet

What to expect: the rows of `benchmarks/RESULTS.md`. The others need GPUs and
have not been run; solo-learn reports 89.2 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings), the authors on ImageNet 72.1 % after 100 epochs of 4096 images a batch and
72.7 % after 200 of 256.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
On CIFAR-10 there are two views of one size, 64 prototypes, a temperature of 0.2 and
batch-normalised embeddings.
"""

from keras_ssl import SwAV
from recipes import _runner
from recipes._runner import IMAGENET, SHAPES, SMALL, Config

RECIPE = _runner.Recipe(
    SwAV,
    {
        "shapes": Config(**SHAPES),
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "imagenet_256": Config(**IMAGENET),
        "imagenet": Config(batch_size=4096, epochs=800, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
