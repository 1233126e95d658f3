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

import dataclasses

import keras

from keras_ssl import BarlowTwins, optimizers, views
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
    weight_decay: float = 1e-6
    warmup_epochs: int = 10
    width: int = 2048
    off_diagonal_weight: float = 0.0051
    loss_scale: float = 0.1
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
        width=1024,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=2048,
        learning_rate=1.6,  # 0.2 * 2048 / 256
        width=8192,
        loss_scale=0.024,
    ),
}


def make_views(config):
    """BYOL's two views of unlike strength; without blur up to 64 px."""
    return views.byol((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    backbone = _runner.backbone(config)
    projector = heads.mlp(
        backbone.feature_dim,
        (config.width,) * 3,
        output_norm=None,
        kernel_initializer="lecun_normal",
    )
    model = BarlowTwins(
        backbone,
        projector,
        off_diagonal_weight=config.off_diagonal_weight,
        loss_scale=config.loss_scale,
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
