r"""SimSiam (Chen and He 2021, https://arxiv.org/abs/2011.10566).

    python -m recipes.simsiam --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simsiam
    python -m recipes.simsiam --preset=cifar10 --data_dir=path/to/tfds --out=runs/simsiam-cifar10
    python -m recipes.simsiam --preset=imagenet --data_dir=path/to/tfds --out=runs/simsiam-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The
others need GPUs and have not been run; the authors report 91.8 % linear on CIFAR-10 after 800
epochs and 68.1 % on ImageNet after 100.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
Residual blocks start as identities, as the authors' for ImageNet.
"""

from keras_ssl import SimSiam
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    SimSiam,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=512, epochs=800),
        "imagenet": Config(batch_size=512, epochs=100, **IMAGENET),
    },
    zero_init_residual=_runner.RESNETS,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
