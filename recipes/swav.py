r"""SwAV (Caron et al. 2020, https://arxiv.org/abs/2006.09882).

    python -m recipes.swav --preset=cifar10_small --data_dir=path/to/tfds --out=runs/swav-small
    python -m recipes.swav --preset=cifar10 --data_dir=path/to/tfds --out=runs/swav-cifar10
    python -m recipes.swav --preset=imagenet_256 --data_dir=path/to/tfds --out=runs/swav-256
    python -m recipes.swav --preset=imagenet --data_dir=path/to/tfds --out=runs/swav-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 89.2 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings), the authors on ImageNet 72.1 % after 100 epochs of 4096 images a batch and
72.7 % after 200 of 256.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARC, few prototypes. On CIFAR-10 there
are two views of one size.
"""

import dataclasses

import keras

from keras_ssl import SwAV, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch.

    The rate rises to it from `first_rate` over `warmup_epochs` and falls to `final_rate`.
    """

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    large_crops: int = 2
    small_crops: int = 0
    backbone: str = "resnet18"
    batch_size: int = 256
    epochs: int = 1000
    optimizer: str = "larc"
    learning_rate: float = 0.6
    first_rate: float = 0.0
    final_rate: float = 6e-4
    warmup_epochs: int = 0
    weight_decay: float = 1e-6
    num_prototypes: int = 512
    temperature: float = 0.1
    epsilon: float = 0.05
    freeze_epochs: int = 1
    queue_size: int = 0
    queue_start: int = 15  # epoch from which on the queue is filled
    seed: int = 0


IMAGENET = {
    "data": "imagenet2012",
    "image_size": 224,
    "small_crops": 6,
    "backbone": "resnet50",
    "num_prototypes": 3000,
}

PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        batch_size=128,
        epochs=20,
        optimizer="adam",
        learning_rate=3e-3,
        final_rate=0.0,
        warmup_epochs=1,
        weight_decay=0.0,
        num_prototypes=64,
    ),
    "cifar10": Config(),
    "imagenet_256": Config(epochs=200, queue_size=3840, **IMAGENET),
    "imagenet": Config(
        batch_size=4096,
        epochs=800,
        learning_rate=4.8,
        first_rate=0.3,
        final_rate=4.8e-3,
        warmup_epochs=10,
        **IMAGENET,
    ),
}


def make_views(config):
    """Large and small views."""
    crops = (config.large_crops, config.small_crops)
    return views.swav((config.image_size, config.image_size), crops)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    steps_per_epoch = num_images // config.batch_size
    size = config.image_size
    model = SwAV(
        backbones.get(config.backbone, (size, size, 3)),
        num_prototypes=config.num_prototypes,
        temperature=config.temperature,
        epsilon=config.epsilon,
        freeze_steps=config.freeze_epochs * steps_per_epoch,
        queue_size=config.queue_size,
        queue_start=config.queue_start * steps_per_epoch,
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        config.first_rate,
        (config.epochs - config.warmup_epochs) * steps_per_epoch,
        alpha=config.final_rate / config.learning_rate,
        warmup_target=config.learning_rate,
        warmup_steps=config.warmup_epochs * steps_per_epoch,
    )
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = optimizers.LARC(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
