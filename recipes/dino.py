r"""DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294).

    python -m recipes.dino --preset=cifar10_small --data_dir=path/to/tfds --out=runs/dino-small
    python -m recipes.dino --preset=cifar10 --data_dir=path/to/tfds --out=runs/dino-cifar10
    python -m recipes.dino --preset=imagenet --data_dir=path/to/tfds --out=runs/dino-r50
    python -m recipes.dino --preset=imagenet_vit --data_dir=path/to/tfds --out=runs/dino-vit-s

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
those for ImageNet need GPUs. solo-learn reports 89.5 % linear on CIFAR-10 (ResNet-18, 1000 epochs,
LARS); the authors, on ImageNet, 75.3 % with ResNet-50 (800 epochs) and 74.0 % with ViT-S/16 after
100 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has solo-learn's prototypes and momentum, and the authors' optimizer for convolutional
networks.
"""

from keras_ssl import DINO
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    DINO,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000, options={"num_prototypes": 4096, "momentum": 0.9995}),
        "imagenet": Config(batch_size=512, epochs=800, **IMAGENET),
        "imagenet_vit": Config(batch_size=512, epochs=100, **IMAGENET | {"backbone": "vit_small"}),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
