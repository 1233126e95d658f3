r"""PIRL (Misra, van der Maaten 2019, https://arxiv.org/abs/1912.01991).

    python -m recipes.pirl --preset=cifar10_small --data_dir=path/to/tfds --out=runs/pirl-small
    python -m recipes.pirl --preset=cifar10 --data_dir=path/to/tfds --out=runs/pirl-cifar10
    python -m recipes.pirl --preset=imagenet --data_dir=path/to/tfds --out=runs/pirl-imagenet

`--set=transform=rotation` matches rotated images in the place of jigsaws.

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 63.6 % linear on ImageNet (ResNet-50, 800 epochs), and nothing
on CIFAR-10.

Departures from the paper: `cifar10` has a jigsaw of 2 x 2 patches and otherwise InstDisc's
settings; `cifar10_small` is a small budget of our own: few images, a small network, few epochs,
Adam in the place of SGD, a rate that falls along a cosine after a warm-up.
"""

import dataclasses

import keras

from keras_ssl import PIRL, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the first or peak one, scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 128
    epochs: int = 200
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    transform: str = "jigsaw"
    weight: float = 0.5  # of the transformed image's term
    temperature: float = 0.1
    num_negatives: int = 0  # 0 for all rows of the bank
    bank_momentum: float = 0.5
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        epochs=20,
        optimizer="adam",
        learning_rate=3e-3,
        weight_decay=0.0,
        warmup_epochs=1,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=1024,
        epochs=800,
        learning_rate=0.12,
        weight_decay=1e-4,
        temperature=0.07,
        num_negatives=32_000,
    ),
}


def make_views(config):
    """The image, and its patches or its rotation."""
    return views.pirl((config.image_size, config.image_size), config.transform)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size, rate = config.image_size, config.learning_rate
    model = PIRL(
        backbones.get(config.backbone, (size, size, 3)),
        num_images,
        transform=config.transform,
        weight=config.weight,
        temperature=config.temperature,
        num_negatives=config.num_negatives,
        bank_momentum=config.bank_momentum,
    )
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(_runner.warmup_cosine(config, num_images))
    else:
        steps = config.epochs * (num_images // config.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=1e-3)
        optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
