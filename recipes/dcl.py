r"""DCL and DCLW (Yeh et al. 2021, https://arxiv.org/abs/2110.06848).

    python -m recipes.dcl --preset=cifar10_small --data_dir=path/to/tfds --out=runs/dcl-small
    python -m recipes.dcl --preset=cifar10 --data_dir=path/to/tfds --out=runs/dcl-cifar10
    python -m recipes.dcl --preset=cifar10_dclw --data_dir=path/to/tfds --out=runs/dclw-cifar10
    python -m recipes.dcl --preset=imagenet --data_dir=path/to/tfds --out=runs/dcl-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; the public code (raminnakhli/Decoupled-Contrastive-Learning) reports 85.4 %
linear on CIFAR-10 after 100 epochs and 82.7 % for DCLW (ResNet-18 by its README, ResNet-50 by its
code), and the authors 68.2 % on ImageNet after 200. The loss may be negative.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, a schedule, temperature 0.2. The rate of `imagenet` is MoCo's.
"""

import dataclasses

from keras_ssl import DCL, backbones, optimizers, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 256
    epochs: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    cosine: bool = False  # whether the rate warms up and falls, or stays
    weight_decay: float = 1e-6
    warmup_epochs: int = 0
    temperature: float = 0.1
    sigma: float = 0.0  # of DCLW; 0 for DCL
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        batch_size=128,
        epochs=20,
        learning_rate=3e-3,
        cosine=True,
        weight_decay=0.0,
        warmup_epochs=1,
        temperature=0.2,
    ),
    "cifar10": Config(),
    "cifar10_dclw": Config(sigma=0.5),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        epochs=200,
        optimizer="sgd",
        learning_rate=0.03,
        cosine=True,
        weight_decay=1e-4,
    ),
}


def make_views(config):
    """SimCLR's views; up to 64 px those of MoCo's CIFAR-10 demo."""
    size = (config.image_size, config.image_size)
    return views.moco(size) if config.image_size <= 64 else views.simclr(size)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    backbone = backbones.get(config.backbone, (size, size, 3))
    model = DCL(backbone, temperature=config.temperature, sigma=config.sigma or None)
    rate = _runner.warmup_cosine(config, num_images) if config.cosine else config.learning_rate
    if config.optimizer == "adam":
        optimizer = optimizers.Adam(rate, weight_decay=config.weight_decay)
    else:
        optimizer = optimizers.SGD(rate, momentum=0.9, weight_decay=config.weight_decay)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
