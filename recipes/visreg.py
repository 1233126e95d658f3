r"""VISReg (Wu, Balestriero, Levine 2026, https://arxiv.org/abs/2606.02572).

    python -m recipes.visreg --preset=cifar10_small --data_dir=path/to/tfds --out=runs/visreg-small
    python -m recipes.visreg --preset=cifar10 --data_dir=path/to/tfds --out=runs/visreg-cifar10
    python -m recipes.visreg --preset=imagenet --data_dir=path/to/tfds --out=runs/visreg-imagenet

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. The authors report 75.7 % linear on ImageNet (ViT-B/16, 400 epochs).

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has the authors' optimizer for ImageNet, with their head and weights for small data.
`imagenet` has no stochastic depth.
"""

from keras_ssl import VISReg
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    VISReg,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=300),
        "imagenet": Config(epochs=400, **IMAGENET | {"backbone": "vit_base"}),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
