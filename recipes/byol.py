r"""BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733).

    python -m recipes.byol --preset=cifar10_small --data_dir=path/to/tfds --out=runs/byol-small
    python -m recipes.byol --preset=cifar10 --data_dir=path/to/tfds --out=runs/byol-cifar10
    python -m recipes.byol --preset=imagenet --data_dir=path/to/tfds --out=runs/byol-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 92.6 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings) and the authors 74.3 % on ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
On ImageNet residual blocks start as identities, as the authors'.
"""

from keras_ssl import BYOL
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    BYOL,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=4096, epochs=1000, **IMAGENET),
    },
    zero_init_residual=("resnet50",),
)


if __name__ == "__main__":
    _runner.main(RECIPE)
