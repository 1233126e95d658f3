r"""CMC (Tian et al. 2019, https://arxiv.org/abs/1906.05849).

    python -m recipes.cmc --preset=cifar10_small --data_dir=path/to/tfds --out=runs/cmc-small
    python -m recipes.cmc --preset=cifar10 --data_dir=path/to/tfds --out=runs/cmc-cifar10
    python -m recipes.cmc --preset=imagenet --data_dir=path/to/tfds --out=runs/cmc-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 64.1 % linear on ImageNet (one ResNet-50 for L, one for
ab, 240 epochs), and nothing on CIFAR-10.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` takes over the settings of the authors' STL-10 runs, all rows in the place of 4,096.
"""

from keras_ssl import CMC
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    CMC,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128, epochs=240),
        "imagenet": Config(
            batch_size=128, epochs=240, options={"num_negatives": 16_384}, **IMAGENET
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
