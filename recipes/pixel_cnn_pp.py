r"""PixelCNN++ (Salimans et al. 2017, https://arxiv.org/abs/1701.05517).

    python -m recipes.pixel_cnn_pp --preset=shapes --out=runs/pp-shapes
    python -m recipes.pixel_cnn_pp --preset=cifar10_small --data_dir=path/to/tfds --out=runs/pp
    python -m recipes.pixel_cnn_pp --preset=cifar10 --data_dir=path/to/tfds --out=runs/pp-cifar10
    python -m recipes.pixel_cnn_pp --preset=imagenet --data_dir=path/to/tfds --out=runs/pp-imagenet

`cifar10` is the network of the authors' code (53.6 million weights, 160 channels, 5 blocks, 10
logistics, dropout 0.5) in batches of 128, 16 on each of 8 GPUs there; they report 2.92 bits per
dimension. `imagenet` is the same network without dropout on ImageNet at 32 px, which the paper does
not train on. Both need GPUs and have not been run; a step of 8 images takes 5.6 GiB (the whole
process, on two CPU cores in float32). What to expect of `cifar10_small`: its row of
`benchmarks/RESULTS.md`.
"""

from keras_ssl import PixelCNNPP
from recipes import _runner
from recipes._runner import SHAPES, SMALL_OWN, Config

_PAPER = {"width": 160, "blocks": 5, "components": 10}

RECIPE = _runner.Recipe(
    PixelCNNPP,
    {
        "shapes": Config(**SHAPES | {"backbone": None}),
        "cifar10_small": Config(**SMALL_OWN),
        "cifar10": Config(
            backbone=None, batch_size=128, epochs=1000, options=_PAPER | {"dropout": 0.5}
        ),
        "imagenet": Config(
            data="imagenet2012", backbone=None, batch_size=128, epochs=20, options=_PAPER
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
