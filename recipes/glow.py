r"""Glow (Kingma and Dhariwal 2018, https://arxiv.org/abs/1807.03039).

    python -m recipes.glow --preset=cifar10_small --data_dir=path/to/tfds --out=runs/glow-small
    python -m recipes.glow --preset=cifar10 --data_dir=path/to/tfds --out=runs/glow-cifar10
    python -m recipes.glow --preset=imagenet --data_dir=path/to/tfds --out=runs/glow-imagenet

Bits per dimension bound the code length of 8-bit pixels from above, and 8 is a uniform guess; the
paper has 3.35 on CIFAR-10 and 4.09 on ImageNet of 32 px. What to expect of
`cifar10_small`: its row of `benchmarks/RESULTS.md`. The other presets have not been run.

`cifar10` and `imagenet` (32 px) have the networks of the authors' commands and batches of 512, 64
on each of their 8 GPUs; a step of `cifar10` on 8 images takes 4 GB, which `--set=remat=True` trades
for time.
The graph of so many steps takes minutes to build. Departures from the paper: those of the method;
the number of epochs is ours.
"""

from keras_ssl import Glow
from recipes import _runner
from recipes._runner import SMALL_OWN, Config

RECIPE = _runner.Recipe(
    Glow,
    {
        "cifar10_small": Config(**SMALL_OWN),
        "cifar10": Config(batch_size=512, epochs=1000, options={"num_steps": 32, "width": 512}),
        "imagenet": Config(
            data="imagenet2012",
            image_size=32,
            batch_size=512,
            epochs=100,
            options={"num_steps": 48, "width": 512},
        ),
    },
)


if __name__ == "__main__":
    _runner.main(RECIPE)
