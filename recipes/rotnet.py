r"""RotNet (Gidaris et al. 2018, https://arxiv.org/abs/1803.07728).

    python -m recipes.rotnet --preset=cifar10_small --data_dir=path/to/tfds --out=runs/rotnet-small
    python -m recipes.rotnet --preset=cifar10 --data_dir=path/to/tfds --out=runs/rotnet-cifar10
    python -m recipes.rotnet --preset=imagenet --data_dir=path/to/tfds --out=runs/rotnet-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run. The authors report 91.2 % on CIFAR-10 with a convolutional classifier on the
second block of their network in network, not a linear one on the last features, which do worse.

Departures from the paper: ResNets in the place of their networks; `cifar10_small` is a small budget
of our own, with the method's defaults. `imagenet` has the settings of VISSL's ResNet-50, with all
four rotations of an image in the batch in the place of one.
"""

import keras

from keras_ssl import RotNet, optimizers
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def optimizer(config, model, steps_per_epoch):
    """For ImageNet a tenth of the rate from epochs 30, 60, 90 and 100 of 105 on, and L2 1e-4."""
    if config.data != "imagenet2012":
        return None
    steps = [round(epoch / 105 * config.epochs * steps_per_epoch) for epoch in (30, 60, 90, 100)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [step - 1 for step in steps], [0.1 * 0.1**i for i in range(5)]
    )
    return optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=1e-4)


RECIPE = _runner.Recipe(
    RotNet,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(batch_size=128),
        "imagenet": Config(epochs=105, **IMAGENET),
    },
    optimizer=optimizer,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
