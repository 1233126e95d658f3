r"""W-MSE (Ermolov, Siarohin, Sangineto, Sebe 2021, https://arxiv.org/abs/2007.06346).

    python -m recipes.wmse --preset=cifar10_small --data_dir=path/to/tfds --out=runs/wmse-small
    python -m recipes.wmse --preset=cifar10 --data_dir=path/to/tfds --out=runs/wmse-cifar10
    python -m recipes.wmse --preset=imagenet --data_dir=path/to/tfds --out=runs/wmse-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`, where there is one. The
others need GPUs and have not been run; the authors report 91.55 % linear on CIFAR-10 (ResNet-18,
1000 epochs, two views).

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128 in one slice, embeddings of 32; `imagenet` keeps the settings of
the smaller sets.
"""

import dataclasses

from keras_ssl import WMSE, backbones, optimizers, views
from keras_ssl.layers import heads
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    num_views: int = 2
    embedding_dim: int = 64
    slice_size: int = 128
    iterations: int = 1
    batch_size: int = 512
    epochs: int = 1000
    learning_rate: float = 3e-3
    weight_decay: float = 1e-6
    warmup_steps: int = 500
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(
        images=10_000,
        backbone="small_conv",
        embedding_dim=32,
        slice_size=64,
        batch_size=128,
        epochs=20,
        warmup_steps=78,
    ),
    "cifar10": Config(),
    "imagenet": Config(
        data="imagenet2012",
        image_size=224,
        backbone="resnet50",
        embedding_dim=128,
        slice_size=256,
        epochs=400,
    ),
}


def make_views(config):
    """As many views as the setting says."""
    return views.wmse((config.image_size, config.image_size), config.num_views)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    backbone = backbones.get(config.backbone, (config.image_size, config.image_size, 3))
    projector = heads.mlp(
        backbone.feature_dim,
        (1024, config.embedding_dim),
        output_norm=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
    )
    width = min(config.slice_size, config.batch_size)
    model = WMSE(backbone, projector, width, config.iterations, config.num_views)
    steps = config.epochs * (num_images // config.batch_size)
    schedule = optimizers.WarmupDrops(
        config.learning_rate,
        drops=(int(0.95 * steps), int(0.975 * steps)),
        factor=0.2,
        warmup_steps=min(config.warmup_steps, steps // 10),
    )
    model.compile(optimizers.Adam(schedule, weight_decay=config.weight_decay))
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
