r"""SimSiam (Chen and He 2021, https://arxiv.org/abs/2011.10566).

    python -m recipes.simsiam --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simsiam
    python -m recipes.simsiam --preset=cifar10 --data_dir=path/to/tfds --out=runs/simsiam-cifar10
    python -m recipes.simsiam --preset=imagenet --data_dir=path/to/tfds --out=runs/simsiam-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The
others need GPUs and have not been run; the authors report 91.8 % linear on CIFAR-10 after 800
epochs and 68.1 % on ImageNet after 100.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of SGD with the predictor's rate falling like
the others, heads of half the width. Networks of ResNet form have the last gamma of each block at 0
at first, as the authors' for ImageNet.
"""

from keras_ssl import SimSiam
from keras_ssl.layers import heads
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def networks(config, backbone):
    """A projector of another width; the predictor's follows it."""
    if config.width is None:
        return {}
    widths = (config.width, config.width)
    return {"projector": heads.mlp(backbone.feature_dim, widths, output_norm="plain")}


RECIPE = _runner.Recipe(
    SimSiam,
    {
        "cifar10_small": Config(**SMALL, learning_rate=2e-3, width=1024),
        "cifar10": Config(batch_size=512, epochs=800),
        "imagenet": Config(batch_size=512, epochs=100, **IMAGENET),
    },
    networks,
    zero_init_residual=True,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
