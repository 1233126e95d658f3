r"""MoCo v1 and v2: He et al. 2020, and Chen et al. 2020.

https://arxiv.org/abs/1911.05722 and https://arxiv.org/abs/2003.04297.

    python -m recipes.moco --preset=cifar10_small --data_dir=path/to/tfds --out=runs/moco-small
    python -m recipes.moco --preset=cifar10 --data_dir=path/to/tfds --out=runs/moco-cifar10
    python -m recipes.moco --preset=imagenet_v1 --data_dir=path/to/tfds --out=runs/moco-v1
    python -m recipes.moco --preset=imagenet_v2 --data_dir=path/to/tfds --out=runs/moco-v2

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 82.6 % kNN on CIFAR-10 after 200 epochs (notebook of their
code) and 60.6 (v1) and 67.5 % (v2) linear on ImageNet after 200.

Departures from the papers: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of SGD, a queue of 2,048 keys.
"""

import dataclasses

import keras

from keras_ssl import MoCo, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    version: int = 2
    batch_size: int = 512
    epochs: int = 200
    optimizer: str = "sgd"
    learning_rate: float = 0.06
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    temperature: float = 0.1
    queue_size: int = 4096
    momentum: float = 0.99
    groups: int = 8
    seed: int = 0


IMAGENET = {
    "data": "imagenet2012",
    "image_size": 224,
    "backbone": "resnet50",
    "batch_size": 256,
    "learning_rate": 0.03,
    "weight_decay": 1e-4,
    "queue_size": 65_536,
    "momentum": 0.999,
}

PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        batch_size=128,
        epochs=20,
        optimizer="adam",
        learning_rate=3e-3,
        weight_decay=0.0,
        warmup_epochs=1,
        temperature=0.2,
        queue_size=2048,
    ),
    "cifar10": Config(version=1),
    "imagenet_v1": Config(version=1, temperature=0.07, **IMAGENET),
    "imagenet_v2": Config(version=2, temperature=0.2, **IMAGENET),
}


def make_views(config):
    """The views of the version; up to 64 px those of the authors' CIFAR-10 demo."""
    return views.moco((config.image_size, config.image_size), version=config.version)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    steps_per_epoch = num_images // config.batch_size
    size = config.image_size
    model = MoCo(
        backbones.get(config.backbone, (size, size, 3)),
        temperature=config.temperature,
        queue_size=config.queue_size,
        momentum=config.momentum,
        groups=config.groups,
        version=config.version,
    )
    schedule = _runner.warmup_cosine(config, num_images)
    if config.version == 1 and config.image_size > 64:
        steps, rate = config.epochs * steps_per_epoch, config.learning_rate
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(0.6 * steps), int(0.8 * steps)], [rate, rate / 10, rate / 100]
        )
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
