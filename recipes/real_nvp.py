r"""RealNVP (Dinh, Sohl-Dickstein and Bengio 2016, https://arxiv.org/abs/1605.08803).

    python -m recipes.real_nvp --preset=cifar10_small --data_dir=path/to/tfds --out=runs/nvp-small
    python -m recipes.real_nvp --preset=cifar10 --data_dir=path/to/tfds --out=runs/nvp-cifar10
    python -m recipes.real_nvp --preset=imagenet --data_dir=path/to/tfds --out=runs/nvp-imagenet

Bits per dimension bound the code length of 8-bit pixels from above, and 8 is a uniform guess; the
paper has 3.49 on CIFAR-10 and 3.98 on ImageNet of 64 px. What to expect: the rows of
`benchmarks/RESULTS.md`; the other presets have not been run.

`cifar10` and `imagenet` (64 px) have the paper's networks and batches of 64. Departures from the
paper: those of the method; the number of epochs is ours, and the paper's ImageNet is a reduced copy
of its own.
"""

from keras_ssl import RealNVP
from recipes import _runner
from recipes._runner import SMALL_OWN, Config

RECIPE = _runner.Recipe(
    RealNVP,
    {
        "cifar10_small": Config(**SMALL_OWN),
        "cifar10": Config(batch_size=64, epochs=100, options={"width": 64, "num_blocks": 8}),
        "imagenet": Config(
            data="imagenet2012",
            image_size=64,
            batch_size=64,
            epochs=20,
            options={"num_scales": 5, "width": 32, "num_blocks": 2},
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
