r"""CMC (Tian et al. 2019, https://arxiv.org/abs/1906.05849).

    python -m recipes.cmc --preset=cifar10_small --data_dir=path/to/tfds --out=runs/cmc-small
    python -m recipes.cmc --preset=cifar10 --data_dir=path/to/tfds --out=runs/cmc-cifar10
    python -m recipes.cmc --preset=imagenet --data_dir=path/to/tfds --out=runs/cmc-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 64.1 % linear on ImageNet (one ResNet-50 for L, one for
ab, 240 epochs), and nothing on CIFAR-10.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, Adam in the place of SGD, a rate that falls along a cosine after a warm-up.
`cifar10` takes over the settings of the authors' STL-10 runs, all rows in the place of 4,096.
"""

import dataclasses

import keras

from keras_ssl import CMC, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the first or peak one, scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"  # of L, and another of ab
    batch_size: int = 128
    epochs: int = 240
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    weight_decay: float = 1e-4
    warmup_epochs: int = 0
    temperature: float = 0.1
    num_negatives: int = 0  # 0 for all rows of the banks
    bank_momentum: float = 0.5
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        epochs=20,
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup_epochs=1,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        temperature=0.07,
        num_negatives=16_384,
    ),
}


def make_views(config):
    """One crop, from which the method takes lightness and colours."""
    return views.cmc((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size, rate = config.image_size, config.learning_rate
    model = CMC(
        backbones.get(config.backbone, (size, size, 3)),
        num_images,
        temperature=config.temperature,
        num_negatives=config.num_negatives,
        bank_momentum=config.bank_momentum,
    )
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(_runner.warmup_cosine(config, num_images))
    else:
        steps = config.epochs * (num_images // config.batch_size)
        drops = [steps // 2, 2 * steps // 3, 5 * steps // 6]
        schedule = optimizers.WarmupDrops(rate, drops)
        optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
