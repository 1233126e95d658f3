r"""NNCLR (Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548).

    python -m recipes.nnclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/nnclr-small
    python -m recipes.nnclr --preset=cifar10 --data_dir=path/to/tfds --out=runs/nnclr-cifar10
    python -m recipes.nnclr --preset=imagenet --data_dir=path/to/tfds --out=runs/nnclr-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 91.9 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings) and the authors 75.4 % on ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has solo-learn's temperature and queue.
"""

from keras_ssl import NNCLR
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    NNCLR,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=4096, epochs=1000, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
