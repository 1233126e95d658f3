r"""FeatureDistillation: a small network from a larger one that was trained before, without labels.

Its default objective is that of SEED (Fang et al. 2021, https://arxiv.org/abs/2101.04731).

    python -m recipes.simclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr-small
    python -m recipes.feature_distillation --preset=cifar10_small --data_dir=path/to/tfds \
        --out=runs/fd-small --set=teacher=runs/simclr-small
    python -m recipes.feature_distillation --preset=cifar10 --data_dir=path/to/tfds \
        --out=runs/fd-cifar10 --set=teacher=runs/simclr-cifar10
    python -m recipes.feature_distillation --preset=imagenet --data_dir=path/to/tfds \
        --out=runs/fd-imagenet --set=teacher=runs/moco-v2

`teacher` is a run folder, a `.keras` file or a SavedModel; the run folder keeps a copy of it. The
backbone of the presets is the student: for `cifar10_small` `thin_conv`, a `small_conv` of half the
width, and a ResNet-18 for the others. `--smoke` takes a teacher with random weights.

No preset has been run to its end. The authors report, linear on ImageNet, 67.6 % in the place of
42.2 % for EfficientNet-B0, and 74.3 % in the place of 67.4 % for ResNet-50, with teachers that are
larger still and with additional small views.

Departures from the paper: other students; no small views; `cifar10_small` is a small budget of our
own, with the method's defaults.
"""

import dataclasses

from keras_ssl import FeatureDistillation, backbones
from recipes import _runner
from recipes._runner import IMAGENET, SMALL


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of a run with a teacher.

    Attributes:
        random_teacher: whether the teacher is a `small_conv` with random weights: for `--smoke`.
    """

    random_teacher: bool = False


def student(config):
    """The backbone that is trained; `thin_conv` has half the channels of `small_conv`."""
    shape = (config.image_size, config.image_size, 3)
    if config.backbone == "thin_conv":
        return backbones.small_conv(shape, widths=(16, 32, 64, 128), name="thin_conv")
    return backbones.get(config.backbone, shape)


def teacher(config, backbone):
    """The constructor's argument, where the options do not hold it."""
    if config.random_teacher:
        return {"teacher": backbones.small_conv(backbone.image_shape)}
    if "teacher" not in config.options:
        raise ValueError(
            "`teacher` must be given: --set=teacher=PATH with a run folder, a .keras file or a "
            "SavedModel. Received: none. `python -m recipes.simclr` makes a run folder."
        )
    return {}


RECIPE = _runner.Recipe(
    FeatureDistillation,
    {
        "cifar10_small": Config(**SMALL | {"backbone": "thin_conv"}),
        "cifar10": Config(),
        "imagenet": Config(**IMAGENET | {"backbone": "resnet18"}),
    },
    networks=teacher,
    backbone=student,
    smoke={"backbone": "thin_conv", "random_teacher": True},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
