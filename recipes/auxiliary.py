r"""Auxiliary: a classifier with few labels, and a self-supervised loss on all images beside it.

S4L (Zhai et al. 2019, https://arxiv.org/abs/1905.03670) with the methods of this library.

    python -m recipes.auxiliary --preset=cifar10_small --data_dir=path/to/tfds --out=runs/auxiliary
    python -m recipes.auxiliary --preset=cifar10 --data_dir=path/to/tfds --out=runs/auxiliary-all
    python -m recipes.auxiliary --preset=imagenet --data_dir=path/to/tfds --out=runs/auxiliary-1k

The same network, images and steps three times: on the labels alone (weight 0), with RotNet and
with SimCLR beside them. `table.csv` holds the classifier's accuracy on the test split; each run
keeps a folder below `--out`, so that a killed study goes on where it was. A tenth of the images of
each class keep their labels.

What to expect: the table of `benchmarks/RESULTS.md` for `cifar10_small`. The others need GPUs and
have not been run. With a tenth of ImageNet's labels the paper reports, top 5, 83.8 % with rotations
in the place of 80.4 % on the labels alone.

Departures from the paper: the departures of `keras_ssl.Auxiliary`; `cifar10_small` is a small
budget of our own, with the methods' defaults.
"""

import dataclasses
import pathlib

import numpy as np

from keras_ssl import Auxiliary, data, evaluation
from keras_ssl.ops import to_unit_range
from recipes import _runner
from recipes._runner import IMAGENET, SMALL


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of the study.

    Attributes:
        share: of the images of each class that keep their labels.
        beside: methods by name, each trained beside the labels, by its own default settings.
    """

    share: float = 0.1
    beside: tuple = ("rotnet", "simclr")
    options: dict = dataclasses.field(default_factory=lambda: {"classifier": 10})


def few_labels(config, source):
    """The images, a share of which keep their labels."""
    return source.with_labels_at(evaluation.draw_labels(source.labels, config.share, config.seed))


def networks(config, backbone):
    """The method, where the options do not name one."""
    return {} if "method" in config.options else {"method": config.beside[0]}


RECIPE = _runner.Recipe(
    Auxiliary,
    {
        "cifar10_small": Config(**SMALL),
        "cifar10": Config(),
        "imagenet": Config(**IMAGENET, options={"classifier": 1000}),
    },
    networks=networks,
    source=few_labels,
    smoke={"share": 1.0},
)


def study(config, out, data_dir=None):
    """A run without a method and one with each, below `out`; writes and returns the table."""
    out = pathlib.Path(out)
    methods = {"labels alone": (config.beside[0], 0.0), **{m: (m, 1.0) for m in config.beside}}
    table, parts = [["beside the labels", "accuracy", "kNN", "linear probe"]], []
    for name, (method, weight) in methods.items():
        part = out / name.replace(" ", "-")
        options = {**config.options, "method": method, "weight": weight}
        own = dataclasses.replace(config, options=options)
        run = _runner.run(RECIPE, own, part, data_dir)
        figures = _runner.figures_of(part)
        accuracy = _accuracy(run.model, config, data_dir)
        table.append([name, accuracy, *(figures[f"{k}, trained encoder"] for k in table[0][2:])])
        parts.append(part)
    title = f"Auxiliary losses beside {100 * config.share:g} % of the labels"
    _runner.write_study(out, title, config, table, parts)
    return table


def _accuracy(model, config, data_dir):
    """Of the classifier, on the test split."""
    size = (config.image_size, config.image_size)
    _, test = data.splits(config.data, image_size=size[0], data_dir=data_dir, seed=config.seed)
    images, labels = test.arrays(size)
    scores = evaluation.extract(lambda x: model.logits(to_unit_range(x)), images)
    return f"{np.mean(scores.argmax(axis=1) == labels):.4f}"


if __name__ == "__main__":
    _runner.main(RECIPE, study)
