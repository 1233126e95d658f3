r"""InstDisc (Wu et al. 2018, https://arxiv.org/abs/1805.01978).

    python -m recipes.instdisc --preset=cifar10_small --data_dir=path/to/tfds --out=runs/id-small
    python -m recipes.instdisc --preset=cifar10 --data_dir=path/to/tfds --out=runs/id-cifar10
    python -m recipes.instdisc --preset=imagenet --data_dir=path/to/tfds --out=runs/id-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 80.8 % kNN on CIFAR-10 (ResNet-18, all rows, on the 128
outputs of the head) and 54.0 % linear on ImageNet (ResNet-50, 4,096 negatives), both after 200
epochs.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
"""

from keras_ssl import InstDisc
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    InstDisc,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128),
        "imagenet": Config(**IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
