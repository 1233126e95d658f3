r"""RotNet (Gidaris et al. 2018, https://arxiv.org/abs/1803.07728).

    python -m recipes.rotnet --preset=cifar10_small --data_dir=path/to/tfds --out=runs/rotnet-small
    python -m recipes.rotnet --preset=cifar10 --data_dir=path/to/tfds --out=runs/rotnet-cifar10
    python -m recipes.rotnet --preset=imagenet --data_dir=path/to/tfds --out=runs/rotnet-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run. The authors report 91.2 % on CIFAR-10 with a convolutional classifier on the
second block of their network in network, not a linear one on the last features, which do worse.

Departures from the paper: ResNets in the place of their networks; `cifar10_small` is a small budget
of our own: few images, a small network, few epochs, Adam in the place of SGD. `imagenet` has the
settings of VISSL's ResNet-50, with all four rotations of an image in the batch in the place of one.
"""

import dataclasses

import keras

from keras_ssl import RotNet, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `batch_size` counts images, each of which is seen four times.

    `learning_rate` is that of the start, multiplied by `drop` at each share of the run in `drops`.
    """

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 128
    epochs: int = 200
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    drop: float = 0.2
    drops: tuple = (0.3, 0.6, 0.8)  # epochs 60, 120, 160
    weight_decay: float = 5e-4
    warmup_epochs: int = 0  # of Adam
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        epochs=20,
        optimizer="adam",
        learning_rate=2e-3,
        weight_decay=0.0,
        warmup_epochs=1,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=256,
        epochs=105,
        drop=0.1,
        drops=(30 / 105, 60 / 105, 90 / 105, 100 / 105),
        weight_decay=1e-4,
    ),
}


def make_views(config):
    """Crop and mirror image, then the four rotations."""
    return views.rotnet((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    steps_per_epoch = num_images // config.batch_size
    size = config.image_size
    model = RotNet(backbones.get(config.backbone, (size, size, 3)))
    steps, rate = config.epochs * steps_per_epoch, config.learning_rate
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(_runner.warmup_cosine(config, num_images))
    else:
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(share * steps) - 1 for share in config.drops],
            [rate * config.drop**i for i in range(len(config.drops) + 1)],
        )
        optimizer = optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
        )
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
