r"""SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    python -m recipes.simclr --preset=shapes --out=runs/simclr-shapes
    python -m recipes.simclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr-small
    python -m recipes.simclr --preset=cifar10 --data_dir=path/to/tfds --out=runs/simclr-cifar10
    python -m recipes.simclr --preset=imagenet --data_dir=path/to/tfds --out=runs/simclr-imagenet

What to expect: the rows of `benchmarks/RESULTS.md` for the presets that were run. `cifar10` and
`imagenet` need GPUs and have not been run; the authors report about 91 % linear on CIFAR-10 after
1000 epochs (README of their code) and 64.5 % on ImageNet after 100.

Departures from the paper: `cifar10_small` and `shapes` are small budgets of our own: few images, a
small network, few epochs, batches of 128, Adam in the place of LARS, temperature 0.2.
"""

import dataclasses

import keras

from keras_ssl import SimCLR, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 512
    epochs: int = 1000
    optimizer: str = "lars"
    learning_rate: float = 2.0  # 1.0 * 512 / 256
    weight_decay: float = 1e-4
    warmup_epochs: int = 10
    temperature: float = 0.5
    strength: float = 0.5
    seed: int = 0


SMALL = {
    "backbone": "small_conv",
    "batch_size": 128,
    "temperature": 0.2,
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "warmup_epochs": 1,
    "weight_decay": 0.0,
}

PRESETS = {
    "shapes": Config(data="shapes", epochs=12, **SMALL),
    "cifar10_small": Config(images=10_000, epochs=20, **SMALL),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=4096,
        epochs=100,
        learning_rate=4.8,  # 0.075 * sqrt(4096)
        temperature=0.1,
        strength=1.0,
    ),
}


def make_views(config):
    """The paper's views: with blur above 64 px alone."""
    return views.simclr((config.image_size, config.image_size), strength=config.strength)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    model = SimCLR(backbones.get(config.backbone, (size, size, 3)), temperature=config.temperature)
    schedule = _runner.warmup_cosine(config, num_images)
    if config.optimizer == "lars":
        optimizer = optimizers.LARS(schedule, weight_decay=config.weight_decay, velocity="update")
    else:
        optimizer = keras.optimizers.Adam(schedule, weight_decay=config.weight_decay or None)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
