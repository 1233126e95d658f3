r"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362), which learns from labels.

    python -m recipes.supcon --preset=cifar10_small --data_dir=path/to/tfds --out=runs/supcon-small
    python -m recipes.supcon --preset=cifar10 --data_dir=path/to/tfds --out=runs/supcon-cifar10
    python -m recipes.supcon --preset=imagenet --data_dir=path/to/tfds --out=runs/supcon-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 96.0 % linear on CIFAR-10 after 1000 epochs (ResNet-50) and
78.7 % on ImageNet.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`imagenet` has the views and the optimizer of CIFAR-10, in the place of AutoAugment and LARS.
"""

from keras_ssl import SupCon
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    SupCon,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(backbone="resnet50", batch_size=1024, epochs=1000),
        "imagenet": Config(batch_size=1024, epochs=350, warmup_epochs=10, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
