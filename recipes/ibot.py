r"""iBOT (Zhou et al. 2021, https://arxiv.org/abs/2111.07832).

    python -m recipes.ibot --preset=cifar10_small --data_dir=path/to/tfds --out=runs/ibot-small
    python -m recipes.ibot --preset=cifar10 --data_dir=path/to/tfds --out=runs/ibot-cifar10
    python -m recipes.ibot --preset=imagenet --data_dir=path/to/tfds --out=runs/ibot-vit-s
    python -m recipes.ibot --preset=imagenet_dinov2 --data_dir=path/to/tfds --out=runs/dinov2

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`, with batches of 32, where
most others have 128: as many images, four times the steps. The collapse monitor warns: features
draw together in the first epochs. The others have not been run; those for ImageNet need GPUs. The
authors report there, with ViT-S/16 after 800 epochs, 77.9 % linear.

Departures from the paper: it has no CIFAR-10; `cifar10_small` has `small_vit`, `cifar10` a ViT-Ti
of patches of 4 px. `imagenet_dinov2` has what DINOv2 adds to the loss (Oquab et al. 2023,
https://arxiv.org/abs/2304.07193): targets by Sinkhorn, KoLeo and heads for images and patches; not
its networks, rates and data.
"""

from keras_ssl import IBOT
from recipes import _runner
from recipes._runner import IMAGENET, SMALL_VIT, Config

VIT_S = {"batch_size": 1024, "epochs": 800, **IMAGENET, "backbone": "vit_small"}

RECIPE = _runner.Recipe(
    IBOT,
    {
        "cifar10_small": Config(**SMALL_VIT | {"batch_size": 32}),
        "cifar10": Config(backbone="vit_tiny", epochs=400),
        "imagenet": Config(**VIT_S),
        "imagenet_dinov2": Config(
            options={"centering": "sinkhorn", "koleo_weight": 0.1, "shared_head": False}, **VIT_S
        ),
    },
    smoke={"backbone": "small_vit"},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
