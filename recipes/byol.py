r"""BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733).

    python -m recipes.byol --preset=cifar10_small --data_dir=path/to/tfds --out=runs/byol-small
    python -m recipes.byol --preset=cifar10 --data_dir=path/to/tfds --out=runs/byol-cifar10
    python -m recipes.byol --preset=imagenet --data_dir=path/to/tfds --out=runs/byol-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 92.6 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings) and the authors 74.3 % on ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARS, heads of 1,024 hidden units.
"""

import dataclasses

import keras

from keras_ssl import BYOL, backbones, optimizers, views
from keras_ssl.layers import heads
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 256
    epochs: int = 1000
    optimizer: str = "lars"
    learning_rate: float = 0.2
    weight_decay: float = 1.5e-6
    warmup_epochs: int = 10
    hidden: int = 4096
    momentum: float = 0.99
    seed: int = 0


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
        hidden=1024,
        momentum=0.98,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=4096,
        learning_rate=3.2,  # 0.2 * 4096 / 256
        momentum=0.996,
    ),
}


def make_views(config):
    """The paper's two views of unlike strength."""
    return views.byol((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    backbone = backbones.get(config.backbone, (size, size, 3))
    widths = (config.hidden, 256)
    head = {"output_norm": None, "kernel_initializer": "lecun_normal"}
    model = BYOL(
        backbone,
        projector=heads.mlp(backbone.feature_dim, widths, name="projector", **head),
        predictor=heads.mlp(256, widths, name="predictor", **head),
        momentum=config.momentum,
    )
    schedule = _runner.warmup_cosine(config, num_images)
    if config.optimizer == "lars":
        optimizer = optimizers.LARS(schedule, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.Adam(schedule)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
