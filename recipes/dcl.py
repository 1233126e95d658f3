r"""DCL and DCLW (Yeh et al. 2021, https://arxiv.org/abs/2110.06848).

    python -m recipes.dcl --preset=cifar10_small --data_dir=path/to/tfds --out=runs/dcl-small
    python -m recipes.dcl --preset=cifar10 --data_dir=path/to/tfds --out=runs/dcl-cifar10
    python -m recipes.dcl --preset=cifar10_dclw --data_dir=path/to/tfds --out=runs/dclw-cifar10
    python -m recipes.dcl --preset=imagenet --data_dir=path/to/tfds --out=runs/dcl-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the public code (raminnakhli/Decoupled-Contrastive-Learning) reports 85.4 %
linear on CIFAR-10 after 100 epochs and 82.7 % for DCLW (ResNet-18 by its README, ResNet-50 by its
code), and the authors 68.2 % on ImageNet after 200. The loss may be negative.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
The rate of `imagenet` is MoCo's.
"""

from keras_ssl import DCL
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    DCL,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=100),
        "cifar10_dclw": Config(epochs=100, options={"sigma": 0.5}),
        "imagenet": Config(**IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
