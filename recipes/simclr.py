r"""SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    python -m recipes.simclr --preset=shapes --out=runs/simclr-shapes
    python -m recipes.simclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr-small
    python -m recipes.simclr --preset=cifar10 --data_dir=path/to/tfds --out=runs/simclr-cifar10
    python -m recipes.simclr --preset=imagenet --data_dir=path/to/tfds --out=runs/simclr-imagenet

What to expect: the rows of `benchmarks/RESULTS.md` for the presets that were run. `cifar10` and
`imagenet` need GPUs and have not been run; the authors report about 91 % linear on CIFAR-10 after
1000 epochs (README of their code) and 64.5 % on ImageNet after 100.

Departures from the paper: `cifar10_small` and `shapes` are small budgets of our own, with the
method's defaults. `cifar10` is the authors' command: a head of three layers, temperature 0.5.
"""

from keras_ssl import SimCLR
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    SimCLR,
    {
        "shapes": Config(**SMALL | {"data": "shapes", "images": 0, "epochs": 12}),
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(
            batch_size=512,
            epochs=1000,
            warmup_epochs=10,
            options={"version": 2, "temperature": 0.5},
        ),
        "imagenet": Config(batch_size=4096, epochs=100, **IMAGENET),
    },
    zero_init_residual=_runner.RESNETS,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
