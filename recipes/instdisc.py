r"""InstDisc (Wu et al. 2018, https://arxiv.org/abs/1805.01978).

    python -m recipes.instdisc --preset=cifar10_small --data_dir=path/to/tfds --out=runs/id-small
    python -m recipes.instdisc --preset=cifar10 --data_dir=path/to/tfds --out=runs/id-cifar10
    python -m recipes.instdisc --preset=imagenet --data_dir=path/to/tfds --out=runs/id-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 80.8 % kNN on CIFAR-10 (ResNet-18, all rows) and 54.0 % linear
on ImageNet (ResNet-50, 4,096 negatives), both after 200 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, Adam in the place of SGD, a rate that falls along a cosine after a warm-up.
"""

import dataclasses

import keras

from keras_ssl import InstDisc, backbones, optimizers, views
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
    temperature: float = 0.1
    num_negatives: int = 0  # 0 for all rows of the bank
    bank_momentum: float = 0.5
    prox_weight: float = 0.0
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
        batch_size=256,
        weight_decay=1e-4,
        temperature=0.07,
        num_negatives=4096,
    ),
}


def make_views(config):
    """The one view of the authors' code."""
    return views.instdisc((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size, rate = config.image_size, config.learning_rate
    model = InstDisc(
        backbones.get(config.backbone, (size, size, 3)),
        num_images,
        temperature=config.temperature,
        num_negatives=config.num_negatives,
        bank_momentum=config.bank_momentum,
        prox_weight=config.prox_weight,
    )
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(_runner.warmup_cosine(config, num_images))
    else:
        steps = config.epochs * (num_images // config.batch_size)
        schedule = optimizers.WarmupDrops(rate, [int(0.6 * steps), int(0.8 * steps)])
        optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
