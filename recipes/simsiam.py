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

import dataclasses

import keras

from keras_ssl import SimSiam, optimizers, views
from keras_ssl.layers import heads
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 512
    epochs: int = 800
    optimizer: str = "sgd"
    learning_rate: float = 0.06  # 0.03 * 512 / 256
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    layers: int = 2
    width: int = 2048
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
        epochs=100,
        learning_rate=0.1,  # 0.05 * 512 / 256
        weight_decay=1e-4,
        layers=3,
    ),
}


def make_views(config):
    """The views of MoCo v2; without blur up to 64 px."""
    return views.moco((config.image_size, config.image_size), version=2)


def make_model(config, num_images, variant=None):
    """The method with its optimizer and schedule; `variant` are more arguments of the method."""
    backbone = _runner.backbone(config)
    widths = (config.width,) * config.layers
    projector = heads.mlp(backbone.feature_dim, widths, output_norm="plain")
    model = SimSiam(backbone, projector, **(variant or {}))
    schedule = _runner.warmup_cosine(config, num_images)
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = optimizers.SGD(
            schedule,
            momentum=0.9,
            weight_decay=config.weight_decay,
            fixed_rates={"predictor": config.learning_rate} if model.use_predictor else None,
        )
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
