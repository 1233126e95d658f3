r"""MoCo v3 (Chen, Xie, He 2021, https://arxiv.org/abs/2104.02057).

    python -m recipes.moco_v3 --preset=cifar10_small --data_dir=path/to/tfds --out=runs/moco-v3
    python -m recipes.moco_v3 --preset=cifar10 --data_dir=path/to/tfds --out=runs/moco-v3-cifar10
    python -m recipes.moco_v3 --preset=cifar10_vit --data_dir=path/to/tfds --out=runs/moco-v3-vit
    python -m recipes.moco_v3 --preset=imagenet --data_dir=path/to/tfds --out=runs/moco-v3-r50
    python -m recipes.moco_v3 --preset=imagenet_vit --data_dir=path/to/tfds --out=runs/moco-v3-vit-s

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The
others need GPUs and have not been run; solo-learn reports 93.1 % linear on CIFAR-10 (ResNet-18,
1000 epochs, another form of LARS) and the authors, on ImageNet, 68.9 % (ResNet-50, 100 epochs) and
73.2 % (ViT-S, 300 epochs).

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has solo-learn's batch and temperature, and the authors' LARS and momentum for so many
epochs; `cifar10_vit` is the authors' recipe for ViT-S on a ViT-Ti of patches of 4 px, a setting of
our own.
"""

from keras_ssl import MoCoV3, backbones
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def backbone(config):
    """The network with the authors' start: frozen patches, or residual blocks as identities."""
    shape = (config.image_size, config.image_size, 3)
    if not config.backbone.startswith("vit"):
        zero = {"zero_init_residual": True} if config.backbone.startswith("resnet") else {}
        return getattr(backbones, config.backbone)(shape, **zero)
    start = {"positions": "sincos", "initializer": "glorot_uniform", "frozen_patches": True}
    return getattr(backbones, config.backbone)(shape, heads=12, **start)


RECIPE = _runner.Recipe(
    MoCoV3,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=1000),
        "cifar10_vit": Config(backbone="vit_tiny", batch_size=512, epochs=300),
        "imagenet": Config(batch_size=4096, epochs=100, **IMAGENET),
        "imagenet_vit": Config(batch_size=4096, epochs=300, **IMAGENET | {"backbone": "vit_small"}),
    },
    backbone=backbone,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
