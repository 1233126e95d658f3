r"""MoCo v1 and v2: He et al. 2020, and Chen et al. 2020.

https://arxiv.org/abs/1911.05722 and https://arxiv.org/abs/2003.04297.

    python -m recipes.moco --preset=cifar10_small --data_dir=path/to/tfds --out=runs/moco-small
    python -m recipes.moco --preset=cifar10 --data_dir=path/to/tfds --out=runs/moco-cifar10
    python -m recipes.moco --preset=imagenet_v1 --data_dir=path/to/tfds --out=runs/moco-v1
    python -m recipes.moco --preset=imagenet_v2 --data_dir=path/to/tfds --out=runs/moco-v2

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 82.6 % kNN on CIFAR-10 after 200 epochs (notebook of their
code, on the 128 outputs of the head) and 60.6 (v1) and 67.5 % (v2) linear on ImageNet after 200.

Departures from the papers: `cifar10_small` is a small budget of our own, with the method's
defaults.
"""

from keras_ssl import MoCo
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    MoCo,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=512, options={"version": 1}),
        "imagenet_v1": Config(options={"version": 1}, **IMAGENET),
        "imagenet_v2": Config(**IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
