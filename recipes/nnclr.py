r"""NNCLR (Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548).

    python -m recipes.nnclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/nnclr-small
    python -m recipes.nnclr --preset=cifar10 --data_dir=path/to/tfds --out=runs/nnclr-cifar10
    python -m recipes.nnclr --preset=imagenet --data_dir=path/to/tfds --out=runs/nnclr-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 91.9 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings) and the authors 75.4 % on ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARS, narrower heads, a queue of 4,096
rows. `cifar10` has solo-learn's temperature and queue.
"""

from keras_ssl import NNCLR
from keras_ssl.layers import heads
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def networks(config, backbone):
    """Heads with another hidden width, and embeddings of 128 numbers."""
    if config.width is None:
        return {}
    form = {"output_norm": None, "kernel_initializer": "lecun_normal"}
    return {
        "projector": heads.mlp(backbone.feature_dim, (config.width, config.width, 128)),
        "predictor": heads.mlp(128, (config.width, 128), name="predictor", **form),
    }


RECIPE = _runner.Recipe(
    NNCLR,
    {
        "cifar10_small": Config(
            **SMALL, learning_rate=2e-3, width=512, options={"queue_size": 4096}
        ),
        "cifar10": Config(epochs=1000),
        "imagenet": Config(batch_size=4096, epochs=1000, **IMAGENET),
    },
    networks,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
