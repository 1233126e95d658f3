r"""SimMIM (Xie et al. 2021, https://arxiv.org/abs/2111.09886).

    python -m recipes.simmim --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simmim-small
    python -m recipes.simmim --preset=cifar10 --data_dir=path/to/tfds --out=runs/simmim-cifar10
    python -m recipes.simmim --preset=imagenet --data_dir=path/to/tfds --out=runs/simmim-vit-b

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`, with batches of 32, where
most others have 128: better than a random encoder in linear probe, no better in kNN. The others
have not been run; the one for ImageNet needs GPUs. The authors report there 83.8 % with ViT-B after
800 epochs, fine-tuned; `--set=learning_rate=4e-4` is the rate of those (batches of 2048).

Departures from the paper: those of the method; it has no CIFAR-10: `cifar10_small` has `small_vit`,
`cifar10` a ViT-Ti of patches of 4 px.
"""

from keras_ssl import SimMIM
from recipes import _runner
from recipes._runner import IMAGENET, SMALL_VIT, Config

RECIPE = _runner.Recipe(
    SimMIM,
    {
        "cifar10_small": Config(**SMALL_VIT | {"batch_size": 32}),
        "cifar10": Config(backbone="vit_tiny", batch_size=512, epochs=400),
        "imagenet": Config(batch_size=2048, epochs=800, **IMAGENET | {"backbone": "vit_base"}),
    },
    smoke={"backbone": "small_vit"},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
