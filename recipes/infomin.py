r"""InfoMin (Tian et al. 2020, https://arxiv.org/abs/2005.10243).

    python -m recipes.infomin --preset=cifar10_small --data_dir=path/to/tfds --out=runs/infomin
    python -m recipes.infomin --preset=cifar10 --data_dir=path/to/tfds --out=runs/infomin-cifar10
    python -m recipes.infomin --preset=imagenet --data_dir=path/to/tfds --out=runs/infomin-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 67.4 % linear on ImageNet (ResNet-50, 100 epochs) and 73.0 %
after 800, and nothing on CIFAR-10.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has MoCo's settings for CIFAR-10.
"""

from keras_ssl import InfoMin
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    InfoMin,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=512),
        "imagenet": Config(epochs=100, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
