r"""NNCLR (Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548).

    python -m recipes.nnclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/nnclr-small
    python -m recipes.nnclr --preset=cifar10 --data_dir=path/to/tfds --out=runs/nnclr-cifar10
    python -m recipes.nnclr --preset=imagenet --data_dir=path/to/tfds --out=runs/nnclr-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 91.9 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings) and the authors 75.4 % on ImageNet after 1000 epochs.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARS, narrower heads, a queue of 4,096
rows. `cifar10` has solo-learn's temperature and queue.
"""

import dataclasses

import keras

from keras_ssl import NNCLR, backbones, optimizers, views
from keras_ssl.layers import heads
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak, already scaled for the batch."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    batch_size: int = 256
    epochs: int = 1000
    optimizer: str = "lars"
    learning_rate: float = 0.3
    weight_decay: float = 1e-6
    warmup_epochs: int = 10
    temperature: float = 0.2
    queue_size: int = 65_536
    hidden: int = 0  # units of the heads' hidden layers; 0 for the paper's heads
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
        queue_size=4096,
        hidden=512,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        batch_size=4096,
        learning_rate=4.8,  # 0.3 * 4096 / 256
        temperature=0.1,
        queue_size=98_304,
    ),
}


def make_views(config):
    """Two views of unlike strength."""
    return views.byol((config.image_size, config.image_size))


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    backbone = backbones.get(config.backbone, (size, size, 3))
    narrow = {}
    if config.hidden:
        narrow = {
            "projector": heads.mlp(backbone.feature_dim, (config.hidden, config.hidden, 128)),
            "predictor": heads.mlp(
                128,
                (config.hidden, 128),
                output_norm=None,
                kernel_initializer="lecun_normal",
                name="predictor",
            ),
        }
    model = NNCLR(backbone, temperature=config.temperature, queue_size=config.queue_size, **narrow)
    schedule = _runner.warmup_cosine(config, num_images)
    if config.optimizer == "lars":
        optimizer = optimizers.LARS(schedule, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.Adam(schedule)
    model.compile(optimizer)
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
