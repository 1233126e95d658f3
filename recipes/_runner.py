"""The single main of the recipes: flags, run folder, evaluation, `--smoke`.

A recipe is a `Recipe`: its method, and presets that say what differs from the method's defaults.
"""

import ast
import csv
import dataclasses
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Callable

import keras
from absl import app, flags, logging

from benchmarks import results
from keras_ssl import backbones, data, distribute, evaluation, optimizers, runs
from keras_ssl.methods import create as methods
from keras_ssl.ops.names import near
from keras_ssl.runs import figures, precisions, teachers
from keras_ssl.runs.folder import recorded, write_atomically

flags.DEFINE_string("preset", None, "Which of the recipe's presets to run.")
flags.DEFINE_string(
    "out", None, "Run folder; the same command on the same folder continues the run."
)
flags.DEFINE_string("data_dir", None, "Where TFDS data sets, or the folder of images, are stored.")
flags.DEFINE_multi_string(
    "set", [], "Setting of the preset, or argument of the method, as name=value; may be repeated."
)
flags.DEFINE_bool(
    "smoke", False, "Two steps of a tiny network on drawn images: does the recipe run?"
)
flags.DEFINE_bool(
    "linear_probe", True, "Whether to fit a linear probe at the end, where there are labels."
)
flags.DEFINE_enum("precision", "float32", precisions.CHOICES, "Number format.")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; None stands for the method's own default.

    Attributes:
        data: as `keras_ssl.data.load` takes it.
        images: of the training split; 0 for all.
        image_size: pixels a side of the views.
        backbone: name of a backbone; None for methods that bring their own network.
        batch_size: images in the global batch.
        epochs: passes over the images.
        optimizer: "adam", with a warm-up and a cosine to zero; by default the method's own.
        learning_rate: peak, for the batch as it is (nothing scales it).
        warmup_epochs: length of the warm-up.
        weight_decay: of the method's own optimizer.
        width: of the heads, where the recipe makes them.
        options: further arguments of the method's constructor.
        seed: of weights, order and views.
    """

    data: str = "cifar10"
    images: int = 0
    image_size: int = 32
    backbone: str | None = "resnet18"
    batch_size: int = 256
    epochs: int = 200
    optimizer: str | None = None
    learning_rate: float | None = None
    warmup_epochs: float | None = None
    weight_decay: float | None = None
    width: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    seed: int = 0


# The small budget of the project's own figures: few images, a small network, few epochs.
SMALL = {"images": 10_000, "backbone": "small_conv", "batch_size": 128, "epochs": 20}
SMALL_OWN = SMALL | {"backbone": None, "epochs": 8}  # of networks of the method's own
SMALL_VIT = SMALL | {"backbone": "small_vit"}  # of methods that need a vision transformer
SHAPES = SMALL | {"data": "shapes", "images": 0, "epochs": 12}  # the drawn images of the demo
_JUDGED = 10_000  # most images that generative methods are judged on

RESNETS = ("resnet18", "resnet34", "resnet50")
IMAGENET = {"data": "imagenet2012", "image_size": 224, "backbone": "resnet50"}

# Methods that reconstruct: papers do not train them on these data, so the settings are ours.
CIFAR_IMAGES = {"batch_size": 128, "epochs": 100, "warmup_epochs": 1}
IMAGENET_IMAGES = {
    "data": "imagenet2012",
    "image_size": 64,
    "batch_size": 128,
    "epochs": 50,
    "warmup_epochs": 1,
    "options": {"latent_dim": 256},
}


def sincos_transformer(config):
    """A vision transformer with fixed positions and the start of MAE's and I-JEPA's authors."""
    shape = (config.image_size, config.image_size, 3)
    start = {"positions": "sincos", "initializer": "glorot_uniform"}
    return getattr(backbones, config.backbone)(shape, **start)


SMOKE = {
    "data": "shapes",
    "backbone": "small_conv",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 2,
    "images": 16,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method, its presets, and what it makes in another way than by default.

    Attributes:
        method: class of the method.
        presets: `Config` by name.
        networks: function of `Config` and the backbone to more arguments of the constructor.
        views: function of `Config` to view pipeline.
        backbone: function of `Config` to backbone.
        optimizer: function of `Config`, model and steps an epoch to optimizer, or to None for the
            usual one.
        zero_init_residual: backbones that start with the last gamma of each block at 0.
        source: function of `Config` and the labelled images to those that are trained on.
        smoke: settings that `--smoke` changes besides `SMOKE`.
        figures: function of model, training images and those it is judged on to more figures, as
            texts by name.
    """

    method: type
    presets: dict
    networks: Callable | None = None
    views: Callable | None = None
    backbone: Callable | None = None
    optimizer: Callable | None = None
    zero_init_residual: tuple = ()
    source: Callable | None = None
    smoke: dict = dataclasses.field(default_factory=dict)
    figures: Callable | None = None

    def make_views(self, config):
        """The view pipeline; None for the method's own."""
        return self.views(config) if self.views else None

    def make_model(self, config, num_images, **options):
        """The method, compiled with the optimizer of `config`."""
        shape = (config.image_size, config.image_size, 3)
        backbone = self.backbone(config) if self.backbone else self._backbone(config, shape)
        networks = self.networks(config, backbone) if self.networks else {}
        if methods.keeps_images(self.method):
            options["num_images"] = num_images
        options = {**networks, **config.options, **options}
        model = methods.create(self.method, shape, backbone, **options)
        steps = num_images // config.batch_size
        model.compile(
            (self.optimizer and self.optimizer(config, model, steps))
            or make_optimizer(config, model, steps)
        )
        return model

    def _backbone(self, config, shape):
        if config.backbone is None:
            return None
        if config.backbone in self.zero_init_residual:
            return getattr(backbones, config.backbone)(shape, zero_init_residual=True)
        return backbones.get(config.backbone, shape)


def make_optimizer(config, model, steps_per_epoch):
    """Adam, or the method's own optimizer with what `config` changes of it."""
    total = config.epochs * steps_per_epoch
    if config.optimizer == "adam":
        return keras.optimizers.Adam(warmup_cosine(config, steps_per_epoch))
    if config.optimizer is not None:
        raise ValueError(
            f"`optimizer` must be 'adam', or None for the method's own. Received: "
            f"optimizer={config.optimizer!r}."
        )
    model.steps_per_epoch.assign(steps_per_epoch)
    warmup = config.warmup_epochs
    return optimizers.adjusted(
        model.default_optimizer(total, config.batch_size),
        config.learning_rate,
        config.weight_decay,
        None if warmup is None else round(warmup * steps_per_epoch),
    )


def warmup_cosine(config, steps_per_epoch):
    """The schedule that `learning_rate`, `epochs` and `warmup_epochs` describe."""
    total, warmup = (round(n * steps_per_epoch) for n in (config.epochs, config.warmup_epochs or 0))
    return optimizers.WarmupCosine(config.learning_rate, total, warmup)


def configure(recipe, preset, changes=(), smoke=False):
    """The preset with its changes applied.

    Args:
        recipe: a `Recipe`.
        preset: name of one of its presets.
        changes: texts `name=value`: settings, read as literals of their type, or arguments of the
            method, read as literals.
        smoke: whether to shrink everything to two steps.

    Returns:
        The `Config`.

    Raises:
        ValueError: if the preset or a name is unknown, or a value has the wrong type.
    """
    if preset not in recipe.presets:
        raise ValueError(
            f"`--preset` must be one of {sorted(recipe.presets)}. Received: {preset!r}."
            + near(str(preset), recipe.presets)
        )
    config = recipe.presets[preset]
    fields = {field.name: field.type for field in dataclasses.fields(config)}
    values, options = {**SMOKE, **recipe.smoke} if smoke else {}, dict(config.options)
    for change in changes:
        name, equals, text = change.partition("=")
        arguments = methods.arguments(recipe.method)
        if not equals or name not in (*fields, *arguments):
            raise ValueError(
                "`--set` takes name=value with a setting of the recipe or an argument of "
                f"{recipe.method.__name__}. Received: {change}." + near(name, [*fields, *arguments])
            )
        if name in fields:
            values[name] = _read(name, text, fields[name])
        else:
            options[name] = _literal(text)
    if methods.brings_network(recipe.method):
        values["backbone"] = None
    return dataclasses.replace(config, **{"options": options, **values})


def run(
    recipe, config, out, data_dir=None, linear_probe=True, random=True, monitor=True, **options
):
    """Train as `config` says, in the run folder `out`; prints and returns the run.

    `options` are more arguments of the constructor. Runs of a study can leave out what they have in
    common (`random`: the encoder is judged before training too) and what it does not ask for
    (`monitor`: kNN and collapse after each epoch).
    """
    start, commit = time.monotonic(), results.commit()
    keras.utils.set_random_seed(config.seed)
    source, test = data.splits(
        config.data, image_size=config.image_size, data_dir=data_dir, seed=config.seed
    )
    if config.images and config.images < source.size:
        source = source.subset(range(config.images))
    judge = linear_probe and source.has_labels and test is not None
    with distribute.scope("auto"):
        given = teachers.given(recipe.method, config.options, out)
        model = recipe.make_model(config, source.size, **{**given, **options})
    accuracies = {"random": _judge(model, source, test, config)} if judge and random else {}
    result = runs.train(
        model,
        source if recipe.source is None else recipe.source(config, source),
        out,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        settings={**dataclasses.asdict(config), "precision": keras.config.dtype_policy().name},
        test=test,
        views=recipe.make_views(config),
        monitor=monitor,
        knn_every=1 if monitor else config.epochs,
    )
    if judge:
        accuracies["trained"] = _judge(model, source, test, config)
        for name, (knn, probe) in accuracies.items():
            print(f"{name} encoder, all labelled images: kNN {knn:.4f}, linear probe {probe:.4f}")
    generative = _generative(model, source, test, config, recipe.figures)
    for name, value in generative.items():
        print(f"{name}: {value}")
    _write_result(result, config, accuracies, generative, commit, time.monotonic() - start)
    return result


def figures_of(part):
    """The figures of the run in folder `part`, as texts by name."""
    return json.loads((part / "result.json").read_text())["figures"]


def write_study(out, title, config, table, parts):
    """The table of a study: as `table.csv`, on the screen, and for `benchmarks.results`.

    Args:
        out: folder of the study.
        title: what was varied.
        config: settings that its runs share.
        table: rows of numbers and texts, names of the columns first.
        parts: folders of its runs, whose commits are told.
    """
    with open(out / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)
    widths = [max(len(str(cell)) for cell in column) for column in zip(*table)]
    for row in table:
        print("  ".join(f"{cell!s:>{width}}" for cell, width in zip(row, widths)))
    found = [json.loads((part / "result.json").read_text()) for part in parts]
    commits = ", ".join(dict.fromkeys(each["commit"] for each in found))
    facts = {"epochs": config.epochs, "table": table}
    _write_record(out, "study", f"{title}: {_title(config)}", commits, config, facts)


def _write_result(result, config, accuracies, generative, commit, seconds):
    """`result.json` in the run folder: what `benchmarks.results` makes a row of."""
    rows = {}
    for name, (knn, probe) in accuracies.items():
        rows |= {
            f"kNN, {name} encoder": f"{knn:.4f}",
            f"linear probe, {name} encoder": f"{probe:.4f}",
        }
    rows |= generative
    if result.verdict is not None:
        rows["collapse monitor"] = result.verdict.status
    rows["minutes, evaluation included"] = f"{seconds / 60:.1f}"
    title = f"{type(result.model).__name__}, {_title(config)}"
    facts = {"epochs": config.epochs, "figures": rows}
    _write_record(result.out, "recipe", title, commit, config, facts)


def _write_record(out, kind, title, commit, config, facts):
    record = {
        "kind": kind,
        "title": title,
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "hardware": results.hardware(),
        "seed": config.seed,
        **facts,
    }
    write_atomically(out / "result.json", json.dumps(record, indent=2) + "\n")


def _title(config):
    images = f"{config.images} images of " if config.images else ""
    return f"{images}{config.data}, {config.backbone or 'own network'} at {config.image_size} px"


def _module():
    main = sys.modules["__main__"].__spec__
    return main.name if main else pathlib.Path(sys.argv[0]).stem


def _judge(model, source, test, config):
    """Accuracy of weighted kNN (k 200, temperature 0.07) and of a linear probe."""
    size = (config.image_size, config.image_size)
    bank, queries = (evaluation.labelled(s, size) for s in (source, test))
    train, held_out = ((evaluation.extract(model.encode, x), y) for x, y in (bank, queries))
    same = lambda features: features  # noqa: E731
    return (
        evaluation.knn_accuracy(same, train, held_out),
        evaluation.linear_probe(same, train, held_out).accuracy,
    )


def _generative(model, source, test, config, more=None):
    """What generative methods are judged by, on all test images if there are any."""
    if not figures.is_generative(model):
        return {}
    judged, kind = (test, "test") if test is not None else (source, "training")
    images, _ = judged.arrays((config.image_size, config.image_size), limit=_JUDGED)
    found = figures.generative_figures(model, images, figures.code_lengths(model, images))
    if more is not None:
        size = (config.image_size, config.image_size)
        found |= more(model, source.arrays(size)[0], images)
    return {f"{name}, {len(images)} {kind} images": value for name, value in found.items()}


def main(recipe, study=None):
    """Entry point of a recipe; `study(config, out, data_dir)` where it is not a single run."""

    def start(arguments):
        if len(arguments) > 1:
            raise app.UsageError(f"Unknown words: {' '.join(arguments[1:])}.")
        if flags.FLAGS.out is None:
            raise app.UsageError("A recipe needs a run folder: --out=runs/1")
        logging.set_verbosity(logging.WARNING)  # hides TensorFlow's messages on what it saves
        preset = flags.FLAGS.preset or next(iter(recipe.presets))
        try:
            config = configure(recipe, preset, flags.FLAGS["set"].value, flags.FLAGS.smoke)
        except ValueError as error:
            raise app.UsageError(str(error)) from error
        out, data_dir = flags.FLAGS.out, flags.FLAGS.data_dir
        known = recorded(out, "precision")
        keras.config.set_dtype_policy(precisions.resolve(flags.FLAGS.precision, known)[0])
        if study is not None:
            study(config, out, data_dir)
        else:
            run(recipe, config, out, data_dir, flags.FLAGS.linear_probe)

    app.run(start)


def _read(name, text, kind):
    """`text` as a value of a setting, whose type is `kind`."""
    if kind is str:
        return text
    value = _literal(text)
    if isinstance(value, int) and not isinstance(value, bool) and kind in (float, float | None):
        value = float(value)
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` must be {getattr(kind, '__name__', kind)}. Received: {text!r}.")
    return value


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
