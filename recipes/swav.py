r"""SwAV (Caron et al. 2020, https://arxiv.org/abs/2006.09882).

    python -m recipes.swav --preset=cifar10_small --data_dir=path/to/tfds --out=runs/swav-small
    python -m recipes.swav --preset=cifar10 --data_dir=path/to/tfds --out=runs/swav-cifar10
    python -m recipes.swav --preset=imagenet_256 --data_dir=path/to/tfds --out=runs/swav-256
    python -m recipes.swav --preset=imagenet --data_dir=path/to/tfds --out=runs/swav-imagenet

What to expect: the row of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run; solo-learn reports 89.2 % linear on CIFAR-10 (ResNet-18, 1000 epochs, other
optimizer settings), the authors on ImageNet 72.1 % after 100 epochs of 4096 images a batch and
72.7 % after 200 of 256.

Departures from the paper: `cifar10_small` is a small budget of our own: few images, a small
network, few epochs, batches of 128, Adam in the place of LARC, few prototypes. On CIFAR-10 there
are two views of one size.
"""

import keras

from keras_ssl import SwAV, optimizers, views
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def optimizer(config, model, steps_per_epoch):
    """LARC with the warm-up of the preset: from a sixteenth of the rate, or none; or Adam."""
    adam, warmup = config.optimizer == "adam", (config.warmup_epochs or 0) * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if adam or not warmup else config.learning_rate / 16,
        config.epochs * steps_per_epoch - warmup,
        alpha=0.0 if adam else 1e-3,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    if adam:
        return keras.optimizers.Adam(schedule)
    return optimizers.LARC(schedule, momentum=0.9, weight_decay=1e-6)


RECIPE = _runner.Recipe(
    SwAV,
    {
        "cifar10_small": Config(**SMALL, learning_rate=3e-3, options={"num_prototypes": 64}),
        "cifar10": Config(epochs=1000, learning_rate=0.6),
        "imagenet_256": Config(
            learning_rate=0.6, options={"queue_size": 3840, "queue_start": 15}, **IMAGENET
        ),
        "imagenet": Config(
            batch_size=4096, epochs=800, learning_rate=4.8, warmup_epochs=10, **IMAGENET
        ),
    },
    views=lambda config: views.swav(config.image_size, (2, 6 if config.image_size > 64 else 0)),
    optimizer=optimizer,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
