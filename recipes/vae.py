r"""VAE (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114).

    python -m recipes.vae --preset=shapes --out=runs/vae-shapes
    python -m recipes.vae --preset=cifar10_small --data_dir=path/to/tfds --out=runs/vae-small
    python -m recipes.vae --preset=cifar10 --data_dir=path/to/tfds --out=runs/vae-cifar10
    python -m recipes.vae --preset=imagenet --data_dir=path/to/tfds --out=runs/vae-imagenet

`--set=beta=4.0` makes it a beta-VAE (Higgins et al. 2017). What to expect: the row of
`benchmarks/RESULTS.md` for `cifar10_small`. The other presets need GPUs and have not been run. Bits
per dimension bound the code length of 8-bit pixels from above, and 8 is a uniform guess. The 4.5 of
van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) on CIFAR-10 is that of a larger network;
one short vector of latents an image does not come near it.

Departures from the papers: convolutional networks on colour photographs with a discretised logistic
likelihood; neither paper trains on these data, so the settings are the community's.
"""

from keras_ssl import VAE
from recipes import _runner
from recipes._runner import CIFAR_IMAGES, IMAGENET_IMAGES, SHAPES, SMALL, Config

RECIPE = _runner.Recipe(
    VAE,
    {
        "shapes": Config(**SHAPES),
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(**CIFAR_IMAGES),
        "imagenet": Config(**IMAGENET_IMAGES),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
