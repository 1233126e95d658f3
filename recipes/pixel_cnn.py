r"""PixelCNN (van den Oord et al. 2016, https://arxiv.org/abs/1601.06759), gated and plain.

    python -m recipes.pixel_cnn --preset=shapes --out=runs/pixel-cnn-shapes
    python -m recipes.pixel_cnn --preset=cifar10_small --data_dir=path/to/tfds --out=runs/pixel
    python -m recipes.pixel_cnn --preset=cifar10 --data_dir=path/to/tfds --out=runs/pixel-cifar10
    python -m recipes.pixel_cnn --preset=imagenet --data_dir=path/to/tfds --out=runs/pixel-in

`cifar10` has the layers of the paper's PixelCNN, without gates: 15 residual blocks of 128 channels,
3x3, and 1,024 channels before the softmax. `imagenet` has those of the gated network (van den Oord
et al. 2016, https://arxiv.org/abs/1606.05328) at 32 px: 20 layers of 384 channels, 5x5. Both need
GPUs and have not been run. The papers tell 3.14 and 3.03 bits per dimension on CIFAR-10. What to
expect of `cifar10_small`, a small gated network: its row of `benchmarks/RESULTS.md`.
"""

from keras_ssl import PixelCNN
from recipes import _runner
from recipes._runner import SHAPES, SMALL_OWN, Config

_PLAIN = {"width": 256, "depth": 15, "kernel_size": 3, "hidden": 1024, "gated": False}
_GATED = {"width": 384, "depth": 19, "kernel_size": 5, "hidden": 1024}

RECIPE = _runner.Recipe(
    PixelCNN,
    {
        "shapes": Config(**SHAPES | {"backbone": None}),
        "cifar10_small": Config(**SMALL_OWN),
        "cifar10": Config(backbone=None, batch_size=16, epochs=200, options=_PLAIN),
        "imagenet": Config(
            data="imagenet2012", backbone=None, batch_size=128, epochs=20, options=_GATED
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
