r"""W-MSE (Ermolov, Siarohin, Sangineto, Sebe 2021, https://arxiv.org/abs/2007.06346).

    python -m recipes.wmse --preset=cifar10_small --data_dir=path/to/tfds --out=runs/wmse-small
    python -m recipes.wmse --preset=cifar10 --data_dir=path/to/tfds --out=runs/wmse-cifar10
    python -m recipes.wmse --preset=imagenet --data_dir=path/to/tfds --out=runs/wmse-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`, where there is one. The
others need GPUs and have not been run; the authors report 91.55 % linear on CIFAR-10 (ResNet-18,
1000 epochs, two views).

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
"""

from keras_ssl import WMSE
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    WMSE,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=512, epochs=1000),
        "imagenet": Config(batch_size=512, epochs=400, **IMAGENET),
    },
    smoke={"batch_size": 128, "images": 128},  # a slice of 128 images
)


if __name__ == "__main__":
    _runner.main(RECIPE)
