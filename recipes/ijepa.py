r"""I-JEPA (Assran et al. 2023, https://arxiv.org/abs/2301.08243).

    python -m recipes.ijepa --preset=cifar10_small --data_dir=path/to/tfds --out=runs/ijepa-small
    python -m recipes.ijepa --preset=cifar10 --data_dir=path/to/tfds --out=runs/ijepa-cifar10
    python -m recipes.ijepa --preset=imagenet --data_dir=path/to/tfds --out=runs/ijepa-vit-b

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`, with batches of 32, where
most others have 128: as many images, four times the steps. The others have not been run; the one
for ImageNet needs GPUs. The authors report there 72.9 % linear with ViT-B/16.

Departures from the paper: it has no CIFAR-10; `cifar10_small` has `small_vit`, `cifar10` a ViT-Ti
of patches of 4 px.
"""

from keras_ssl import IJEPA, backbones
from recipes import _runner
from recipes._runner import IMAGENET, SMALL_VIT, Config


def averaging(config):
    """A vision transformer with fixed positions, whose features are the mean of its patches."""
    shape = (config.image_size, config.image_size, 3)
    return getattr(backbones, config.backbone)(shape, positions="sincos", pooling="avg")


RECIPE = _runner.Recipe(
    IJEPA,
    {
        "cifar10_small": Config(**SMALL_VIT | {"batch_size": 32}),
        "cifar10": Config(backbone="vit_tiny", batch_size=512, epochs=400),
        "imagenet": Config(batch_size=2048, epochs=600, **IMAGENET | {"backbone": "vit_base"}),
    },
    backbone=averaging,
    smoke={"backbone": "small_vit"},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
