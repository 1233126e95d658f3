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

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARS, heads of 1,024 hidden units.
`cifar10` has solo-learn's heads, batch, rate, temperature and momentum, with the authors' LARS;
`cifar10_vit` is the authors' recipe for ViT-S on a ViT-Ti of patches of 4 px, a setting of our own.
"""

import dataclasses

import keras

from keras_ssl import MoCoV3, backbones, optimizers, views
from keras_ssl.layers import heads
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    heads: int = 0  # of the attention of a vision transformer
    crop: float = 0.08  # smallest share of the area that a view shows
    batch_size: int = 256
    epochs: int = 1000
    optimizer: str = "lars"
    learning_rate: float = 0.3
    weight_decay: float = 1e-6
    warmup_epochs: int = 10
    temperature: float = 0.2
    momentum: float = 0.99
    hidden: int = 4096
    seed: int = 0


TRANSFORMER = {
    "epochs": 300,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "warmup_epochs": 40,
}

PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        batch_size=128,
        epochs=20,
        optimizer="adam",
        learning_rate=2e-3,
        weight_decay=0.0,
        warmup_epochs=1,
        momentum=0.98,
        hidden=1024,
    ),
    "cifar10": Config(),
    "cifar10_vit": Config(
        backbone="vit_tiny",
        heads=12,
        batch_size=512,
        learning_rate=3e-4,  # 1.5e-4 * 512 / 256
        **TRANSFORMER,
    ),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        crop=0.2,
        batch_size=4096,
        epochs=100,
        learning_rate=9.6,  # 0.6 * 4096 / 256
        temperature=1.0,
    ),
    "imagenet_vit": Config(
        data="imagenet2012",
        image_size=224,
        backbone="vit_small",
        heads=12,
        batch_size=4096,
        learning_rate=2.4e-3,  # 1.5e-4 * 4096 / 256
        **TRANSFORMER,
    ),
}


def make_views(config):
    """BYOL's two views with the preset's crops; above 64 px bilinear, as in the authors' script."""
    size = (config.image_size, config.image_size)
    return views.byol(size, config.crop, "bilinear" if config.image_size > 64 else "bicubic")


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    backbone, transformer = make_backbone(config), config.backbone.startswith("vit")
    start = {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}
    model = MoCoV3(
        backbone,
        projector=heads.mlp(
            backbone.feature_dim,
            (config.hidden,) * (2 if transformer else 1) + (256,),
            output_norm="plain",
            **start,
        ),
        predictor=heads.mlp(
            256,
            (config.hidden, 256),
            output_norm="plain" if transformer else None,
            name="predictor",
            **start,
        ),
        temperature=config.temperature,
        momentum=config.momentum,
    )
    schedule = _runner.warmup_cosine(config, num_images)
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(schedule),
        "adamw": lambda: keras.optimizers.AdamW(
            schedule, weight_decay=config.weight_decay, epsilon=1e-8
        ),
        "lars": lambda: optimizers.LARS(schedule, weight_decay=config.weight_decay),
    }[config.optimizer]()
    model.compile(optimizer)
    return model


def make_backbone(config):
    """The network with the authors' start: frozen patches, or residual blocks as identities."""
    shape = (config.image_size, config.image_size, 3)
    if config.backbone.startswith("vit"):
        return getattr(backbones, config.backbone)(
            shape,
            heads=config.heads,
            positions="sincos",
            initializer="glorot_uniform",
            frozen_patches=True,
        )
    return _runner.backbone(config)


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
