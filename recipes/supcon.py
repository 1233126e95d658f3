r"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362), which learns from labels.

    python -m recipes.supcon --preset=cifar10_small --data_dir=path/to/tfds --out=runs/supcon-small
    python -m recipes.supcon --preset=cifar10 --data_dir=path/to/tfds --out=runs/supcon-cifar10
    python -m recipes.supcon --preset=imagenet --data_dir=path/to/tfds --out=runs/supcon-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the authors report 96.0 % linear on CIFAR-10 after 1000 epochs (ResNet-50) and
78.7 % on ImageNet.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of SGD. `imagenet` has the views and the
optimizer of CIFAR-10, in the place of AutoAugment and LARS.
"""

import dataclasses

import keras

from keras_ssl import SupCon, backbones, optimizers
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for batch and loss."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet50"
    batch_size: int = 1024
    epochs: int = 1000
    optimizer: str = "sgd"
    learning_rate: float = 0.714  # 0.5 * 0.1 / 0.07, as the authors' loss has that factor
    weight_decay: float = 7e-5  # 1e-4 / (0.1 / 0.07)
    warmup_epochs: int = 10
    temperature: float = 0.1
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
    ),
    "cifar10": Config(),
    "imagenet": Config(data="imagenet2012", image_size=224, epochs=350),
}


def make_views(config):
    """None, which stands for the method's own views, the authors' for CIFAR."""
    return None


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    model = SupCon(backbones.get(config.backbone, (size, size, 3)), temperature=config.temperature)
    schedule = _runner.warmup_cosine(config, num_images)
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
