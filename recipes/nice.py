r"""NICE (Dinh, Krueger and Bengio 2014, https://arxiv.org/abs/1410.8516).

    python -m recipes.nice --preset=cifar10_small --data_dir=path/to/tfds --out=runs/nice-small
    python -m recipes.nice --preset=cifar10 --data_dir=path/to/tfds --out=runs/nice-cifar10
    python -m recipes.nice --preset=imagenet --data_dir=path/to/tfds --out=runs/nice-imagenet

Bits per dimension bound the code length of 8-bit pixels from above, and 8 is a uniform guess; the
paper's 5371.78 nats on CIFAR-10 are 4.48 bits. What to expect of `cifar10_small`: its row of
`benchmarks/RESULTS.md`. The other presets have not been run.

`cifar10` has the paper's network, batch and 1,500 epochs. Departures from the paper: those of the
method; ImageNet is not in it, so those settings are ours.
"""

from keras_ssl import NICE
from recipes import _runner
from recipes._runner import SMALL_OWN, Config

PAPER = {"width": 2000, "depth": 4, "whitening": True}

RECIPE = _runner.Recipe(
    NICE,
    {
        "cifar10_small": Config(**SMALL_OWN),
        "cifar10": Config(batch_size=200, epochs=1500, options=PAPER),
        "imagenet": Config(
            data="imagenet2012", image_size=32, batch_size=200, epochs=50, options=PAPER
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
