r"""SimCLR's study of augmentations: which pairs of them make a good task?

Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 3.1 and figure 5.

    python -m recipes.simclr_augmentations --preset=cifar10_small --data_dir=path/to/tfds \
        --out=runs/augmentations

One view is the image itself; the other goes through two operations, one after the other, or through
one alone (the diagonal). Each pair is a run in a folder of its own below `--out`, so that a killed
study goes on where it was; `table.csv` and `heat_map.png` hold the linear probe's accuracy of
every pair. In the paper crop with colour stands out, and no operation alone is enough.

`cifar10_small`, whose map is in `benchmarks/RESULTS.md`, is a small budget of our own: few images,
a small network, few epochs, Adam, and pairs in one order only, so that the map is symmetric. There
too the best pairs have a crop and take colours away: crop and Sobel 48.4 %, crop and colour 47.0 %,
no other above 46.1 %, crop alone 43.1 %, colour alone 36.1 %; with `--set=epochs=40`, of which
those two were run, 53.2 and 53.1 %. `cifar10` has not been run.

Departures from the paper: images that have one size already are not cropped at random before (its
images differ in size); sizes of the distortions are ours.
"""

import dataclasses
import itertools
import pathlib

from matplotlib.figure import Figure

from keras_ssl import SimCLR, views
from keras_ssl.runs import precisions
from recipes import _runner
from recipes._runner import SMALL


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of every run; `first` and `second` name the pair."""

    first: str = "crop"
    second: str = "colour"
    both_orders: bool = True  # False: (a, b) stands for (b, a) too, in the order of `FORMS`


FORMS = {
    "crop": lambda size: views.RandomResizedCrop(size),
    "cutout": lambda size: views.Cutout(),
    "colour": lambda size: views.Compose(
        [views.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), views.Grayscale(0.2)]
    ),
    "sobel": lambda size: views.Sobel(),
    "noise": lambda size: views.GaussianNoise(),
    "blur": lambda size: views.GaussianBlur(1.0, kernel_size=max(3, size[0] // 10)),
    "rotation": lambda size: views.QuarterTurns(),
}


def make_views(config):
    """The image itself, and the image after the pair."""
    size = (config.image_size, config.image_size)
    for name in (config.first, config.second):
        if name not in FORMS:
            raise ValueError(f"`first` and `second` must be of {list(FORMS)}. Received: {name!r}.")
    pair = [FORMS[name](size) for name in dict.fromkeys((config.first, config.second))]
    plain = views.CenterCrop(size)
    return views.TwoViews(views.Compose([plain]), views.Compose([plain, *pair]))


RECIPE = _runner.Recipe(
    SimCLR,
    {
        "cifar10_small": Config(
            **SMALL | {"images": 5_000, "epochs": 10},
            optimizer="adam",
            learning_rate=3e-3,
            warmup_epochs=1,
            options={"temperature": 0.2},
            both_orders=False,
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
    """Run every pair below `out`; writes and returns the heat map, rows being the first."""
    out, names = pathlib.Path(out), list(FORMS)
    found, folders = {}, []
    pairs = itertools.product(names, names)
    if not config.both_orders:
        pairs = itertools.combinations_with_replacement(names, 2)
    for first, second in pairs:
        folder = out / f"{first}-{second}"
        if not (folder / "result.json").exists():
            pair = dataclasses.replace(config, first=first, second=second)
            _runner.run(RECIPE, pair, folder, data_dir, random=False, monitor=False)
            precisions.clear_session()
        folders.append(folder)
        figures = _runner.figures_of(folder)
        found[first, second] = float(figures["linear probe, trained encoder"])
    table = [[found.get((a, b), found.get((b, a))) for b in names] for a in names]
    rows = [["first, second", *names], *([n, *row] for n, row in zip(names, table))]
    _runner.write_study(out, "Linear probe of SimCLR's pairs of operations", config, rows, folders)
    draw(table, names, out / "heat_map.png")
    return table


def draw(table, names, path):
    """The heat map as a picture: accuracy in percent in each cell."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(table, cmap="viridis")
    for axis, label in ((axes.xaxis, "second"), (axes.yaxis, "first")):
        axis.set_ticks(range(len(names)), names)
        axis.set_label_text(label)
    for row, column in itertools.product(range(len(names)), repeat=2):
        text = f"{100 * table[row][column]:.1f}"
        axes.text(column, row, text, ha="center", va="center", color="white")
    figure.colorbar(picture, label="linear probe, accuracy")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    _runner.main(RECIPE, study)
