r"""VICReg (Bardes, Ponce, LeCun 2022, https://arxiv.org/abs/2105.04906).

    python -m recipes.vicreg --preset=cifar10_small --data_dir=path/to/tfds --out=runs/vicreg-small
    python -m recipes.vicreg --preset=cifar10 --data_dir=path/to/tfds --out=runs/vicreg-cifar10
    python -m recipes.vicreg --preset=imagenet --data_dir=path/to/tfds --out=runs/vicreg-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The
others need GPUs and have not been run; solo-learn reports 92.1 % linear on CIFAR-10 (ResNet-18,
1000 epochs, another LARS, and twice the weight of the variances) and the authors 73.2 % on ImageNet
after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
Residual blocks start as identities, as the authors'.
"""

from keras_ssl import VICReg
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    VICReg,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=2048, epochs=1000, **IMAGENET),
    },
    zero_init_residual=_runner.RESNETS,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
