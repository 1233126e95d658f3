r"""BoWNet (Gidaris et al. 2020, https://arxiv.org/abs/2002.12247).

    python -m recipes.bow_net --preset=cifar10_small --data_dir=path/to/tfds --out=runs/1
    python -m recipes.bow_net --preset=cifar10 --data_dir=path/to/tfds --out=runs/2
    python -m recipes.bow_net --preset=imagenet --data_dir=path/to/tfds --out=runs/3 \
        --set=teacher=path/to/a/run/of/rotnet

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. The authors report 62.1 % linear on ImageNet (ResNet-50); they report nothing on
CIFAR-10.

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
In `cifar10` the run makes its teacher by itself, in the first tenth; it has the paper's 2048 words
for CIFAR-100. Without `--set=teacher` so does `imagenet`. Its words are of the last stage of the
network (theirs: the one before).
"""

from keras_ssl import BoWNet
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config

RECIPE = _runner.Recipe(
    BoWNet,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128, options={"num_words": 2048, "rotation_share": 0.1}),
        "imagenet": Config(options={"num_words": 20_000}, **IMAGENET),
    },
    smoke={"options": {"num_words": 16}},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
