r"""PIRL (Misra, van der Maaten 2019, https://arxiv.org/abs/1912.01991).

    python -m recipes.pirl --preset=cifar10_small --data_dir=path/to/tfds --out=runs/pirl-small
    python -m recipes.pirl --preset=cifar10 --data_dir=path/to/tfds --out=runs/pirl-cifar10
    python -m recipes.pirl --preset=imagenet --data_dir=path/to/tfds --out=runs/pirl-imagenet

`--set=transform=rotation` matches rotated images in the place of jigsaws.

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 63.6 % linear on ImageNet (ResNet-50, 800 epochs), and nothing
on CIFAR-10.

Departures from the paper: `cifar10` has a jigsaw of 2 x 2 patches and otherwise InstDisc's
settings; `cifar10_small` is a small budget of our own, with the method's defaults.
"""

from keras_ssl import PIRL
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    PIRL,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128),
        "imagenet": Config(batch_size=1024, epochs=800, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
