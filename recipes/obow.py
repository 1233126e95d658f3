r"""OBoW (Gidaris et al. 2021, https://arxiv.org/abs/2012.11552).

    python -m recipes.obow --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.obow --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.obow --preset=imagenet --data_dir=path/to/tfds --out=runs/3

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. The authors report 73.8 % linear on ImageNet (ResNet-50, 200 epochs); they report
nothing on CIFAR-10.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has the authors' number of words, and the rate and L2 of their ResNet-18.
"""

from keras_ssl import OBoW
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    OBoW,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(learning_rate=0.05, weight_decay=5e-4, options={"num_words": 8192}),
        "imagenet": Config(**IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
