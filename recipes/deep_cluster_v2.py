r"""DeepCluster-v2 (Caron et al. 2020, https://arxiv.org/abs/2006.09882).

    python -m recipes.deep_cluster_v2 --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.deep_cluster_v2 --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.deep_cluster_v2 --preset=imagenet --data_dir=path/to/tfds --out=runs/3

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. solo-learn reports 88.9 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings), the authors on ImageNet 75.2 % after 800 epochs of 4096 images a batch.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
On CIFAR-10 there are two views of one size, 100 prototypes a head, a temperature of 0.2 and
batch-normalised embeddings.
"""

from keras_ssl import DeepClusterV2
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    DeepClusterV2,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=4096, epochs=800, **IMAGENET),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
