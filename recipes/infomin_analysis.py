r"""InfoMin's analysis: how much two views share, against how good the features are.

Tian et al. 2020, https://arxiv.org/abs/2005.10243, section 3 and figure 3.

    python -m recipes.infomin_analysis --preset=cifar10_small --data_dir=path/to/tfds \
        --out=runs/infomin-analysis

SimCLR is trained with crops of more and more of the image, and with stronger and stronger colour
jitter, each by itself with the other at the usual setting. Of every encoder the bound on what the
views of test images share (`keras_ssl.evaluation.shared_information`, at most the logarithm of 512)
stands beside the accuracy of kNN and linear probe. In the paper features are best in between. Each
setting is a run in a folder of its own below `--out`, so that a killed study goes on where it was;
`table.csv` and `analysis.png` hold the result.

`cifar10_small`, whose table is in `benchmarks/RESULTS.md`, is a small budget of our own: few
images, a small network, few epochs, Adam. There, too, the best is in between: crops of at least 40
% of the area and a jitter of strength 0.5; `cifar10` has not been run. Departures from the paper:
SimCLR in the place of CMC and MoCo; the critic is the encoder's own projector.
"""

import dataclasses
import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

from keras_ssl import SimCLR, data, evaluation, views
from keras_ssl.runs import precisions
from keras_ssl.runs.folder import write_atomically
from recipes import _runner
from recipes._runner import SMALL

CROPS = (0.04, 0.08, 0.2, 0.4, 0.7, 1.0)
STRENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0)
COLUMNS = ("study", "value", "shared, nats", "limit, nats", "kNN", "linear probe")


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of every run; `crop` and `strength` are what is varied."""

    crop: float = 0.08  # smallest share of the area that a view shows
    strength: float = 0.5  # of the colour jitter


def make_views(config):
    """SimCLR's two views, with the crop and the jitter of the setting."""
    size = (config.image_size, config.image_size)
    return views.simclr(size, strength=config.strength, min_scale=config.crop)


RECIPE = _runner.Recipe(
    SimCLR,
    {
        "cifar10_small": Config(
            **SMALL | {"images": 5_000, "epochs": 10},
            optimizer="adam",
            learning_rate=3e-3,
            warmup_epochs=1,
            options={"temperature": 0.2},
        ),
        "cifar10": Config(
            epochs=100,
            optimizer="adam",
            learning_rate=1e-3,
            warmup_epochs=5,
            options={"temperature": 0.2},
        ),
    },
    views=make_views,
)


def study(config, out, data_dir=None):
    """Run every setting below `out`; writes and returns the rows of the table."""
    out, rows = pathlib.Path(out), []
    settings = [("crop", c) for c in CROPS] + [("strength", s) for s in STRENGTHS]
    for name, value in settings:
        changed = dataclasses.replace(config, **{name: value})
        found = measure(changed, out / f"{name}-{value}", data_dir)
        rows.append([name, value, *found])
        precisions.clear_session()
    folders = [out / f"{name}-{value}" for name, value in settings]
    _runner.write_study(out, "What views share", config, [COLUMNS, *rows], folders)
    draw(rows, out / "analysis.png")
    return rows


def measure(config, folder, data_dir):
    """Bound, limit, kNN and linear probe of the run in `folder`, which is made where it is not."""
    shared = folder / "shared.json"
    if not shared.exists():
        result = _runner.run(RECIPE, config, folder, data_dir, random=False, monitor=False)
        bound = share(result.model, make_views(config), config, data_dir)
        record = {"nats": bound.nats, "limit": bound.limit}
        write_atomically(shared, json.dumps(record) + "\n")
    bound = json.loads(shared.read_text())
    figures = _runner.figures_of(folder)
    accuracies = [
        float(figures.get(f"{kind}, trained encoder", "nan")) for kind in ("kNN", "linear probe")
    ]
    return [round(bound["nats"], 4), round(bound["limit"], 4), *accuracies]


def share(model, pipeline, config, data_dir, limit=10_000):
    """The bound for two views of each test image, or training image where there is no test."""
    source, test = data.splits(config.data, image_size=config.image_size, data_dir=data_dir)
    judged = test if test is not None else source
    batch_size = min(100, judged.size)
    pairs = data.stream(judged, pipeline, batch_size, config.seed)
    steps = min(judged.size, limit) // batch_size
    embedded = [
        [np.array(model.embed(view)) for view in batch["views"]] for batch in pairs.take(steps)
    ]
    first, second = (np.concatenate([z[i] for z in embedded]) for i in range(2))
    return evaluation.shared_information(first, second, num_pairs=min(512, len(first) // 2))


def draw(rows, path):
    """Linear probe against shared information, a line for each study."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("crop", "strength")):
        points = [(row[2], 100 * row[5], row[1]) for row in rows if row[0] == name]
        axes.plot([p[0] for p in points], [p[1] for p in points], "o-")
        for x, y, value in points:
            axes.annotate(f"{value:g}", (x, y), textcoords="offset points", xytext=(4, 4))
        axes.set_title({"crop": "smallest crop", "strength": "strength of the jitter"}[name])
        axes.set_xlabel("shared information, nats (lower bound)")
        axes.set_ylabel("linear probe, accuracy in percent")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    _runner.main(RECIPE, study)
