r"""DeepCluster (Caron et al. 2018, https://arxiv.org/abs/1807.05520).

    python -m recipes.deep_cluster --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.deep_cluster --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.deep_cluster --preset=imagenet --data_dir=path/to/tfds --out=runs/3

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. The authors report none on CIFAR-10, and on ImageNet 41.0 % linear, on the third
convolution of AlexNet.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
On ImageNet a ResNet-50 in the place of AlexNet with Sobel filters, as ours has none.
"""

from keras_ssl import DeepCluster
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    DeepCluster,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(),
        "imagenet": Config(**IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
