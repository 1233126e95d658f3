r"""SimSiam's study of itself: what keeps it from collapse, and where its targets may come from.

Chen and He 2021, https://arxiv.org/abs/2011.10566, sections 4.1, 4.2, 4.6 and 5.

    python -m recipes.simsiam_variants --preset=cifar10_small --data_dir=path/to/tfds \
        --out=runs/simsiam-variants

Each of `VARIANTS` is a run in a folder of its own below `--out`, so that a killed study goes on
where it was; `table.csv` holds accuracies, the last loss, spread and rank of features and of
the projector's outputs, and the collapse monitor's verdict. The paper (ImageNet, ResNet-50, 100
epochs, linear): baseline 68.1 %, no stop-gradient 0.1 and no predictor 0.1 (both collapse),
asymmetric 64.8; targets of 10 steps 68.7, of 100 68.9, of an epoch 67.0; targets averaged over
visits in the place of the predictor 55.0.

`cifar10_small`, whose table is in `benchmarks/RESULTS.md`, is a small budget of our own, that of
`recipes.simsiam`: few images, a small network, few epochs, Adam, heads of half the width. There,
too, features without stop-gradient or predictor are worse than an untrained network's, and the
monitor says "collapsed" of both; the first has the lowest loss of all. One term instead of two
costs accuracy, targets of 10 steps to an epoch ago add some (the paper's of an epoch cost some),
and averaged targets stay far behind: kNN 0.315, below the untrained network's 0.323. "Dimensional
collapse", said of the baseline too, means projections of rank 12 of 1,024. The other presets need
GPUs and have not been run.

Departures from the paper: an epoch has 78 steps, fewer than the longest window (2,500 on ImageNet);
in 20 epochs an image is visited 20 times, so that about a hundredth of an averaged target (0.8^20)
is still its random start.
"""

import csv
import dataclasses
import json
import pathlib

from keras_ssl import data
from recipes import _runner, simsiam


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of every run, those of `recipes.simsiam`; `variant` names one of `VARIANTS`."""

    variant: str = "baseline"


# Arguments of the method for the steps of an epoch and the number of images.
VARIANTS = {
    "baseline": lambda steps, images: {},
    "no_stop_gradient": lambda steps, images: {"stop_gradient": False},
    "no_predictor": lambda steps, images: {"use_predictor": False},
    "asymmetric": lambda steps, images: {"symmetric": False},
    "targets_10_steps": lambda steps, images: {"target_steps": 10},
    "targets_100_steps": lambda steps, images: {"target_steps": 100},
    "targets_epoch": lambda steps, images: {"target_steps": steps},
    "targets_averaged": lambda steps, images: {
        "use_predictor": False,
        "target_momentum": 0.8,
        "num_images": images,
    },
}

# Columns of the table, by their names in `metrics.csv`.
COLUMNS = {
    "loss": "loss",
    "features std": "features_std",
    "features rank": "features_effective_rank",
    "projections std": "embedding_std",
    "projections rank": "embedding_effective_rank",
    "projections uniformity": "embedding_uniformity",
}

RECIPE = dataclasses.replace(
    simsiam.RECIPE,
    presets={name: Config(**vars(preset)) for name, preset in simsiam.RECIPE.presets.items()},
)


def study(config, out, data_dir=None):
    """Run every variant below `out`; writes, prints and returns the table."""
    out, table = pathlib.Path(out), []
    for variant in VARIANTS:
        folder = out / variant
        if not (folder / "result.json").exists():
            images = config.images or data.load(config.data, data_dir=data_dir).size
            options = VARIANTS[variant](images // config.batch_size, images)
            single = dataclasses.replace(config, variant=variant, options=options)
            _runner.run(RECIPE, single, folder, data_dir, random=False)
            _runner.clear_session()
        table.append({"variant": variant, **_row(folder)})
    rows = [list(table[0]), *(list(row.values()) for row in table)]
    folders = [out / variant for variant in VARIANTS]
    _runner.write_study(out, "SimSiam's variants", config, rows, folders)
    return table


def _row(folder):
    """What a finished run is told by: accuracies, figures of its last epoch, the verdict."""
    figures = json.loads((folder / "result.json").read_text())["figures"]
    with open(folder / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    row = {kind: figures[f"{kind}, trained encoder"] for kind in ("kNN", "linear probe")}
    row |= {name: f"{float(last[column]):.3f}" for name, column in COLUMNS.items()}
    return {**row, "collapse monitor": figures["collapse monitor"]}


if __name__ == "__main__":
    _runner.main(RECIPE, study)
