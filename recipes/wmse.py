r"""W-MSE (Ermolov, Siarohin, Sangineto, Sebe 2021, https://arxiv.org/abs/2007.06346).

    python -m recipes.wmse --preset=cifar10_small --data_dir=path/to/tfds --out=runs/wmse-small
    python -m recipes.wmse --preset=cifar10 --data_dir=path/to/tfds --out=runs/wmse-cifar10
    python -m recipes.wmse --preset=imagenet --data_dir=path/to/tfds --out=runs/wmse-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`, where there is one. The
others need GPUs and have not been run; the authors report 91.55 % linear on CIFAR-10 (ResNet-18,
1000 epochs, two views).

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128 in one slice, embeddings of 32; `imagenet` keeps the settings of
the smaller sets.
"""

from keras_ssl import WMSE
from keras_ssl.layers import heads
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def networks(config, backbone):
    """A projector to embeddings of another width; slices are twice as many images."""
    if config.width is None:
        return {}
    form = {"output_norm": None, "use_bias": True, "kernel_initializer": "glorot_uniform"}
    return {"projector": heads.mlp(backbone.feature_dim, (1024, config.width), **form)}


RECIPE = _runner.Recipe(
    WMSE,
    {
        "cifar10_small": Config(**SMALL | {"optimizer": None}, width=32),
        "cifar10": Config(batch_size=512, epochs=1000),
        "imagenet": Config(batch_size=512, epochs=400, width=128, **IMAGENET),
    },
    networks,
    smoke={"width": 4},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
