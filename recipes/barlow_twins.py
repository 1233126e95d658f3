r"""Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230).

    python -m recipes.barlow_twins --preset=cifar10_small --data_dir=path/to/tfds --out=runs/barlow
    python -m recipes.barlow_twins --preset=cifar10 --data_dir=path/to/tfds --out=runs/barlow-cifar
    python -m recipes.barlow_twins --preset=imagenet --data_dir=path/to/tfds --out=runs/barlow-in

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The
others need GPUs and have not been run; solo-learn reports 92.1 % linear on CIFAR-10 (ResNet-18,
1000 epochs, another LARS, so that its rates cannot be taken over) and the authors 73.2 % on
ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARS, heads of 1,024 units. The
learning rate ends at 0 (the authors': at a thousandth of its peak). Networks of ResNet form have
the last gamma of each block at 0 at first, as the authors'.
"""

from keras_ssl import BarlowTwins
from keras_ssl.layers import heads
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def networks(config, backbone):
    """A projector of another width."""
    if config.width is None:
        return {}
    form = {"output_norm": None, "kernel_initializer": "lecun_normal"}
    return {"projector": heads.mlp(backbone.feature_dim, (config.width,) * 3, **form)}


RECIPE = _runner.Recipe(
    BarlowTwins,
    {
        "cifar10_small": Config(**SMALL, learning_rate=2e-3, width=1024),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=2048, epochs=1000, **IMAGENET),
    },
    networks,
    zero_init_residual=True,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
