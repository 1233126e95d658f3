"""The single main of the recipes: flags, run folder, evaluation, `--smoke`.

A recipe is a frozen dataclass `Config` with its presets and two functions, `make_model(config,
num_images)` and `make_views(config)`; everything else is here.
"""

import ast
import csv
import dataclasses
import datetime
import json
import pathlib
import sys
import time

import keras
from absl import app, flags, logging

from benchmarks import results
from keras_ssl import backbones, data, distribute, evaluation, optimizers, runs
from keras_ssl.ops.names import near
from keras_ssl.runs import figures
from keras_ssl.runs.folder import write_atomically

flags.DEFINE_string("preset", None, "Which of the recipe's presets to run.")
flags.DEFINE_string(
    "out", None, "Run folder; the same command on the same folder continues the run."
)
flags.DEFINE_string("data_dir", None, "Where TFDS data sets, or the folder of images, lie.")
flags.DEFINE_multi_string(
    "set", [], "Setting of the preset to change, as name=value; may be repeated."
)
flags.DEFINE_bool(
    "smoke", False, "Two steps of a tiny network on drawn images: does the recipe run?"
)
flags.DEFINE_bool(
    "linear_probe", True, "Whether to fit a linear probe at the end, where there are labels."
)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Number format."
)

SMOKE = {
    "data": "shapes",
    "backbone": "small_conv",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 2,
    "images": 16,
    "warmup_epochs": 1,
    "embedding_dim": 4,
}

_JUDGED = 10_000  # most images that generative methods are judged on


def configure(presets, preset, changes=(), smoke=False):
    """The preset with its changes applied.

    Args:
        presets: dict of names to frozen dataclasses.
        preset: one of the names.
        changes: texts `name=value`, read as literals of the setting's type.
        smoke: whether to shrink everything to two steps.

    Returns:
        The dataclass.

    Raises:
        ValueError: if the preset or a setting is unknown, or a value has the wrong type.
    """
    if preset not in presets:
        raise ValueError(
            f"`--preset` must be one of {sorted(presets)}. Received: {preset!r}."
            + near(str(preset), presets)
        )
    config = presets[preset]
    fields = {field.name: field.type for field in dataclasses.fields(config)}
    values = {name: value for name, value in SMOKE.items() if name in fields} if smoke else {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in fields:
            raise ValueError(
                f"`--set` takes name=value with a setting of the recipe. Received: {change}."
                + near(name, fields)
            )
        values[name] = _read(name, text, fields[name])
    return dataclasses.replace(config, **values)


def warmup_cosine(config, num_images):
    """The schedule that `learning_rate`, `epochs` and `warmup_epochs` of a recipe describe."""
    steps_per_epoch = num_images // config.batch_size
    return optimizers.WarmupCosine(
        config.learning_rate,
        config.epochs * steps_per_epoch,
        config.warmup_epochs * steps_per_epoch,
    )


def backbone(config):
    """The network of a recipe; ResNets with the last gamma of each block at 0 at first."""
    shape = (config.image_size, config.image_size, 3)
    if config.backbone.startswith("resnet"):
        return getattr(backbones, config.backbone)(shape, zero_init_residual=True)
    return backbones.get(config.backbone, shape)


def clear_session():
    """Forget the networks of the last run; `keras.backend.clear_session` forgets the format too."""
    precision = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)


def run(
    config, make_model, make_views, out, data_dir=None, linear_probe=True, random=True, monitor=True
):
    """Train as `config` says, in the run folder `out`; prints and returns the run.

    Runs of a study can leave out what they have in common (`random`: the encoder is judged before
    training too) and what it does not ask for (`monitor`: kNN and collapse after each epoch).
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
        model = make_model(config, source.size)
        figures = {"random": _judge(model, source, test, config)} if judge and random else {}
        result = runs.train(
            model,
            source,
            out,
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=config.seed,
            settings={**dataclasses.asdict(config), "precision": keras.config.dtype_policy().name},
            test=test,
            views=make_views(config),
            monitor=monitor,
            knn_every=1 if monitor else config.epochs,
        )
    if judge:
        figures["trained"] = _judge(model, source, test, config)
        for name, (knn, probe) in figures.items():
            print(f"{name} encoder, all labelled images: kNN {knn:.4f}, linear probe {probe:.4f}")
    generative = _generative(model, source, test, config)
    for name, value in generative.items():
        print(f"{name}: {value}")
    _write_result(result, config, figures, generative, commit, time.monotonic() - start)
    return result


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


def _write_result(result, config, figures, generative, commit, seconds):
    """`result.json` in the run folder: what `benchmarks.results` makes a row of."""
    rows = {}
    for name, (knn, probe) in figures.items():
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
    return f"{images}{config.data}, {config.backbone} at {config.image_size} px"


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


def _generative(model, source, test, config):
    """What generative methods are judged by, on all test images if there are any."""
    if not figures.is_generative(model):
        return {}
    judged, kind = (test, "test") if test is not None else (source, "training")
    images, _ = judged.arrays((config.image_size, config.image_size), limit=_JUDGED)
    found = figures.generative_figures(model, images)
    return {f"{name}, {len(images)} {kind} images": value for name, value in found.items()}


def main(presets, make_model, make_views, whole=None):
    """Entry point of a recipe; `whole(config, out, data_dir)` where it is not a single run."""

    def start(arguments):
        if len(arguments) > 1:
            raise app.UsageError(f"Unknown words: {' '.join(arguments[1:])}.")
        if flags.FLAGS.out is None:
            raise app.UsageError("Say where the run goes: --out=runs/1")
        logging.set_verbosity(logging.WARNING)  # TensorFlow tells of its savings otherwise
        try:
            config = configure(
                presets,
                flags.FLAGS.preset or next(iter(presets)),
                flags.FLAGS["set"].value,
                flags.FLAGS.smoke,
            )
        except ValueError as error:
            raise app.UsageError(str(error)) from error
        keras.config.set_dtype_policy(flags.FLAGS.precision)
        if whole is not None:
            whole(config, flags.FLAGS.out, flags.FLAGS.data_dir)
            return
        run(
            config,
            make_model,
            make_views,
            flags.FLAGS.out,
            flags.FLAGS.data_dir,
            flags.FLAGS.linear_probe,
        )

    app.run(start)


def _read(name, text, kind):
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind) and value is not None:
        raise ValueError(f"`{name}` must be {getattr(kind, '__name__', kind)}. Received: {text!r}.")
    return value
