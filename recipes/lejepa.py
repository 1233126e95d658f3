r"""LeJEPA (Balestriero, LeCun 2025, https://arxiv.org/abs/2511.08544).

    python -m recipes.lejepa --preset=cifar10_small --data_dir=path/to/tfds --out=runs/lejepa-small
    python -m recipes.lejepa --preset=cifar10 --data_dir=path/to/tfds --out=runs/lejepa-cifar10
    python -m recipes.lejepa --preset=eb_jepa --data_dir=path/to/tfds --out=runs/lejepa-eb \
        --precision=mixed_bfloat16
    python -m recipes.lejepa --preset=imagenet --data_dir=path/to/tfds --out=runs/lejepa-imagenet

What to expect of `cifar10_small`: the row of `benchmarks/RESULTS.md`. The others have not been run;
they need GPUs. `eb_jepa` is the setting of https://github.com/facebookresearch/eb_jepa
(`examples/image_jepa`, `sigreg.yaml`), which reports 91.02 % for a linear probe that is trained
beside the network on CIFAR-10 (ResNet-18, 300 epochs, bfloat16; the best head of a search); lightly
reports 64.0 % linear on ImageNet (ViT-S/16, 100 epochs; before a change of its loss).

Departures from the paper: `cifar10_small` is a small budget of our own, with the method's defaults.
`cifar10` has the authors' optimizer, with eb_jepa's head and views. Departures of `eb_jepa` from
its code: the first convolution of its ResNet-18 pads by 2 and not by 1; its rate changes once an
epoch, ours at every step, and starts at 3e-5, ours at 0; its views pass the network one after the
other, ours as one batch.
"""

from keras_ssl import LeJEPA, optimizers
from recipes import _runner
from recipes._runner import IMAGENET, SMALL, Config


def optimizer(config, model, steps_per_epoch):
    """The optimizer of eb_jepa, where the preset names it; None for the method's own."""
    if config.optimizer != "larc":
        return None
    return optimizers.LARC(
        _runner.warmup_cosine(config, steps_per_epoch),
        momentum=0.9,
        weight_decay=config.weight_decay,
        trust_coefficient=0.02,
        clip=True,
        exclude_1d=True,
    )


RECIPE = _runner.Recipe(
    LeJEPA,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(epochs=300),
        "eb_jepa": Config(
            epochs=300,
            optimizer="larc",
            learning_rate=0.3,
            warmup_epochs=10,
            weight_decay=1e-4,
            options={
                "sigreg_weight": 10.0,
                "invariance_weight": 4.0,  # of two views, whose mse is 4 times the term
                "scale_by_batch": False,
                "num_points": 10,
            },
        ),
        "imagenet": Config(
            epochs=100,
            options={"sigreg_weight": 0.05, "num_slices": 1024},
            **IMAGENET | {"backbone": "vit_small"},
        ),
    },
    optimizer=optimizer,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
