r"""Ablations of SimSiam: what prevents collapse, and where targets may come from.

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
import pathlib

import keras
from keras import ops

from keras_ssl import SimSiam, data, distribute
from keras_ssl.layers import ema, heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.ops import l2_normalize
from keras_ssl.runs import precisions
from recipes import _runner, simsiam


@keras.saving.register_keras_serializable("keras_ssl_recipes")
class AlternatingSimSiam(SimSiam):
    """SimSiam with the targets of section 5, computed with earlier weights or over earlier views.

    The paper reads SimSiam as an alternation between targets eta_x of the images, computed with the
    current weights, and steps of the weights towards them. Two arguments take this further:

    `target_steps` = k: the weights at the start of k steps compute the targets of all k batches.
    The paper computes and stores them beforehand; here a copy of the networks, renewed every k
    steps, computes them when their batch comes: the same numbers, without a store, for a second
    forward pass.

    `target_momentum` = m: targets average over the views that an image has had,

        eta_x <- norm( m eta_x + (1 - m) norm(z) ),    z of the other view, then D(p, eta_x),

    in the place of the predictor, which by the paper's hypothesis approximates this mean. The rows
    take `4 * num_images * width` bytes. Departures from the paper: eta has unit length, as in the
    memory bank that the paper compares it with, and is random before an image is first seen (the
    paper says neither); for both orders of the views the average starts from the same eta, which
    then moves towards the mean of both views.

    Args:
        backbone: as `SimSiam`.
        projector: as `SimSiam`.
        predictor: as `SimSiam`.
        use_predictor: as `SimSiam`.
        stop_gradient: as `SimSiam`; must be True with targets of either kind.
        symmetric: as `SimSiam`.
        target_steps: k, >= 1; for the paper's "1-epoch" the number of steps in an epoch.
        target_momentum: m, in [0, 1); 0 for targets of one view.
        num_images: number of training images if `target_momentum` is above 0, else None.
        **kwargs: as `keras.Model`.

    Batch:
        views: as `SimSiam`.
        index: the images' places in the data, integers `(batch,)`; with `target_momentum` only.

    Raises:
        ValueError: if a number is outside its range; if `target_steps` and `target_momentum` are
            combined, or one of them with `stop_gradient=False`; if `num_images` is given or left
            out where it should not be.
    """

    def __init__(
        self,
        backbone,
        projector=None,
        predictor=None,
        use_predictor=True,
        stop_gradient=True,
        symmetric=True,
        target_steps=1,
        target_momentum=0.0,
        num_images=None,
        **kwargs,
    ):
        super().__init__(
            backbone, projector, predictor, use_predictor, stop_gradient, symmetric, **kwargs
        )
        self.target_steps, self.target_momentum = target_steps, target_momentum
        self.num_images = num_images
        self._check()
        if target_steps > 1:
            self.target_backbone = ema.make_teacher(self.backbone)
            self.target_projector = ema.make_teacher(self.projector)
        if target_momentum:
            width = self.projector.output_shape[-1]
            self.bank = MemoryBank(num_images, width, target_momentum, name="targets")

    @property
    def batch_keys(self):
        """Keys of the batch; with a target of each image, the images' places too."""
        return ("views", "index") if self.target_momentum else ("views",)

    def compute_losses(self, batch, training):
        """Negative cosines of predictions and targets; then the images' targets move."""
        z = [
            heads.chain(view, self.backbone, self.projector, training=training)
            for view in batch["views"]
        ]
        targets = [None, self._target(batch, z, 1, training)]
        if self.symmetric:
            targets[0] = self._target(batch, z, 0, training)
        loss = self._loss(z, targets, training)
        if training and self.target_momentum:
            seen = [l2_normalize(own) for own in (z if self.symmetric else z[1:])]
            index = distribute.all_gather(batch["index"])
            self.bank.update(index, distribute.all_gather(sum(seen)))
        return {"loss": loss}

    def after_step(self):
        """Every `target_steps` steps the copy that computes targets takes the weights."""
        if self.target_steps > 1:
            # A share of 1 keeps the copy, a share of 0 replaces it.
            within = ops.cast(ops.not_equal(self.step % self.target_steps, 0), "float32")
            ema.update(self.target_backbone, self.backbone, within)
            ema.update(self.target_projector, self.projector, within)

    def _target(self, batch, z, view, training):
        """The target that view `view` gives the other one, of the global batch."""
        if self.target_steps > 1:
            networks = (self.target_backbone, self.target_projector)
            target = heads.chain(batch["views"][view], *networks, training=training)
            return distribute.all_gather(ops.stop_gradient(target))
        target = distribute.all_gather(z[view])
        if self.target_momentum:
            past = self.bank.look_up(distribute.all_gather(batch["index"]))
            share = self.target_momentum
            target = share * past + (1.0 - share) * l2_normalize(target)
        return target

    def _check(self):
        steps, momentum = self.target_steps, self.target_momentum
        received = f"Received: target_steps={steps}, target_momentum={momentum}"
        if int(steps) != steps or steps < 1 or not 0 <= momentum < 1:
            raise ValueError(
                "`target_steps` must be a whole number >= 1, and `target_momentum` in [0, 1). "
                f"{received}. Leave them out for the plain method."
            )
        if steps > 1 and momentum:
            raise ValueError(
                "`target_steps` > 1 and `target_momentum` > 0 are different ways to make targets. "
                f"{received}. Leave one of them out."
            )
        if not self.stop_gradient and (steps > 1 or momentum):
            raise ValueError(
                "`stop_gradient` must be True with `target_steps` or `target_momentum`, whose "
                f"targets are constants. {received}, stop_gradient=False. Leave it out."
            )
        if bool(momentum) != (self.num_images is not None):
            raise ValueError(
                "`num_images` must be given with a `target_momentum` > 0, which keeps a target for "
                f"each image, and with nothing else. {received}, num_images={self.num_images}."
            )


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
    method=AlternatingSimSiam,
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
            precisions.clear_session()
        table.append({"variant": variant, **_row(folder)})
    rows = [list(table[0]), *(list(row.values()) for row in table)]
    folders = [out / variant for variant in VARIANTS]
    _runner.write_study(out, "SimSiam's variants", config, rows, folders)
    return table


def _row(folder):
    """What a finished run is told by: accuracies, figures of its last epoch, the verdict."""
    figures = _runner.figures_of(folder)
    with open(folder / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    row = {kind: figures[f"{kind}, trained encoder"] for kind in ("kNN", "linear probe")}
    row |= {name: f"{float(last[column]):.3f}" for name, column in COLUMNS.items()}
    return {**row, "collapse monitor": figures["collapse monitor"]}


if __name__ == "__main__":
    _runner.main(RECIPE, study)
