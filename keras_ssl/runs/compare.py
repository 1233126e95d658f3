"""Several methods on the same images, backbone and budget, a few seeds each, in one table."""

import contextlib
import dataclasses
import math
import pathlib
import time
import traceback
from typing import Any

import keras
import numpy as np

import keras_ssl
from keras_ssl import backbones, evaluation, report
from keras_ssl import data as data_module
from keras_ssl.data.folder import CORRUPT, PIXELS
from keras_ssl.encoders import load_encoder
from keras_ssl.engine import inputs
from keras_ssl.methods import METHODS
from keras_ssl.methods import create as creation
from keras_ssl.runs import comparison_checks as checks
from keras_ssl.runs import precisions
from keras_ssl.runs.comparison import PAGE, RANDOM, RECORD, Results, by_seed, cells, reasons
from keras_ssl.runs.evaluate import (
    CARD,
    PROTOCOLS,
    Card,
    evaluate,
    names_of,
    shares_of,
)
from keras_ssl.runs.folder import check_path, read_record
from keras_ssl.runs.forgetting import forgetting
from keras_ssl.runs.pretrain import architecture, check_settings, pretrain

_SPLIT = 0  # seed of held-out images and of evaluations: the same for all runs
_ON_MAP = 1000  # test images on the maps
_KNOWN = (ValueError, RuntimeError, OSError, ImportError)  # of others the trace is shown


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` leaves behind.

    Attributes:
        out: the folder.
        rows: a dict a method, best first; "scores" has mean, std and each seed's value.
        report: the page in it.
    """

    out: pathlib.Path
    rows: list
    report: pathlib.Path


def compare(
    methods: Any,
    data: Any,
    out: Any,
    *,
    seeds: int = 3,
    backbone: Any = None,
    image_size: int | None = None,
    epochs: int = 100,
    batch_size: int | None = None,
    protocols: Any = "knn,linear",
    fractions: Any = "0.01,0.1",
    draws: int = 5,
    test: Any = None,
    data_dir: Any = None,
    download: bool = False,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
    precision: str = "auto",
    optimizer: str = "auto",
    checkpoint_every: int = 1,
    method_options: dict | None = None,
    verbose: Any = "auto",
) -> Comparison:
    """Pretrain several methods on the same images, evaluate them, and write one table and page.

    Images, held-out images, backbone, budget and evaluation are the same for all; the seed changes
    weights, order and views. Beside the methods stands the backbone with its initial weights.

    The same call on the same `out` goes on where it was stopped, repeats runs that failed, and
    takes more methods and seeds; results that are there already stay in the table. A method that
    fails does not stop the others: the table says why, and the call ends with an error once all
    else is written.

    Args:
        methods: names of methods with commas between them (`keras-ssl methods` lists them); in
            Python also a list, of names or classes.
        data: labelled images: a folder with one sub-folder a class, a TFDS name, an `.npz` file,
            `shapes` (drawn here); in Python also a `keras_ssl.data.Source`.
        out: the folder: `comparison.json`, `comparison.csv`, `comparison.html`, and each run of
            `pretrain` in `METHOD/seed-N`.
        seeds: number of seeds, which are 0, 1, 2 ...
        backbone: name of a backbone; in Python also a model, of which each run trains a copy with
            new initial weights. By default resnet18 (vit_tiny where all are methods of vision
            transformers).
        image_size: height and width of the views, one number; by default the images' own, at most
            224.
        epochs: passes over the images of each run.
        batch_size: images in the global batch; by default 256, or the number of images if smaller.
        protocols: names of protocols of `evaluate`, with commas between them; the table is sorted
            by kNN, or by the first where kNN is not among them.
        fractions: shares of the labels for the protocol `lowshot`, with commas between them.
        draws: draws of each share.
        test: labelled images for all scores, in the forms of `data`; by default the data set's own
            test split, or a tenth held out, the same for all seeds.
        data_dir: where TFDS data sets are stored.
        download: whether TFDS may download and prepare a data set that is not there.
        max_corrupt_fraction: share of unreadable image files above which reading stops.
        max_pixels: pixels of an image file above which it counts as unreadable.
        precision: number format, as for `pretrain`; with `auto`, methods that learn worse in
            bfloat16 train in float32.
        optimizer: `auto` or `paper`, as for `pretrain`.
        checkpoint_every: epochs between checkpoints.
        method_options: dict of further arguments for single methods, each as METHOD.NAME, such as
            `simclr.temperature`.
        verbose: 0 for neither progress bars nor what each run and evaluation says.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: for methods, settings, images or a folder that cannot be used; nothing is
            trained.
        RuntimeError: at the end, if runs failed: all results are written, and the same call tries
            these runs again.
    """
    checks.check_is_number(batch_size)
    check_settings(
        optimizer,
        seeds=seeds,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        draws=draws,
        checkpoint_every=checkpoint_every,
    )
    check_path(out)
    checks.check_alone()
    classes = checks.classes_of(methods)
    options = checks.options_of(method_options, classes)
    checks.check_methods(classes, options, out, seeds)
    protocols = sorted(names_of("protocols", protocols, PROTOCOLS), key=PROTOCOLS.index)
    lowshot = {"fractions": shares_of(fractions), "draws": draws} if "lowshot" in protocols else {}
    taken, why = precisions.resolve(precision, _recorded(out, "precision"))
    train, held_out = data_module.splits(
        data,
        test=test,
        image_size=image_size,
        data_dir=data_dir,
        seed=_SPLIT,
        download=download,
        max_corrupt_fraction=max_corrupt_fraction,
        max_pixels=max_pixels,
    )
    common = {"data": train, "test": held_out, "verbose": verbose}
    budget = {
        "image_size": min(224, *train.typical_size) if image_size is None else image_size,
        "epochs": epochs,
        "batch_size": inputs.batch_size_for(train, batch_size),
        "optimizer": optimizer,
    }
    judging = {"protocols": protocols, "baseline": False, "seed": _SPLIT, **lowshot}
    plan = _Plan(
        classes=classes,
        options=options,
        backbone=backbone,
        precision=taken,
        sensitive="float32" if precision == "auto" and taken != "float32" else None,
        training={**common, **budget, "checkpoint_every": checkpoint_every},
        judging={**common, **judging},
    )
    network = plan.untrained(0)
    shares = lowshot.get("fractions", ())
    checks.check_budget(network, train, held_out, budget["batch_size"], shares, _SPLIT)
    named = backbone is None or isinstance(backbone, str)
    settings = {
        **budget,
        "data": train.name,
        "images": train.fingerprint(),
        "test": held_out.fingerprint(),
        "backbone": plan.network() if named else "a model",
        "network": architecture(network),
        "precision": taken,
        "precision_of_sensitive_methods": plan.sensitive,
        "protocols": protocols,
        **lowshot,
        "version": keras_ssl.__version__,
    }
    results = Results(out, settings, options)
    try:
        if verbose:
            print(why)
        _run_all(plan, results, seeds)
        return _finish(plan, results, settings)
    finally:
        results.close()


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the runs of a comparison share.

    Attributes:
        classes: of the methods, by the names of their folders.
        options: of each of them.
        backbone: as given.
        precision: number format,
        sensitive: and that of methods that learn worse in bfloat16; None where it is the same.
        training: arguments of `pretrain`.
        judging: arguments of `evaluate`.
    """

    classes: dict
    options: dict
    backbone: Any
    precision: str
    sensitive: str | None
    training: dict
    judging: dict

    def network(self) -> Any:
        """The backbone, or the name of the default: that of methods of transformers among such."""
        names = {creation.default_backbone(cls) for cls in self.classes.values()}
        return self.backbone or (names.pop() if len(names) == 1 else "resnet18")

    def untrained(self, seed: int) -> keras.Model:
        """The backbone with the initial weights of a seed."""
        size, channels = self.training["image_size"], self.training["data"].image_shape[2]
        name = self.network()
        with precisions.policy(self.precision):
            keras.utils.set_random_seed(seed)
            if isinstance(name, str):
                return backbones.get(name, (size, size, channels))
            return evaluation.fresh(backbones.get(name, (size, size, channels)))

    def of_run(self, name: str, seed: int) -> dict:
        """Arguments of `pretrain` for one run."""
        cls, backbone = self.classes[name], self.backbone
        precision = self.precision if cls.half_precision else self.sensitive or self.precision
        return {
            **self.training,
            "method": name if cls in METHODS else cls,
            "seed": seed,
            "backbone": backbone if isinstance(backbone, str | None) else self.untrained(seed),
            "precision": precision,
            "method_options": self.options[name],
        }


def _run_all(plan: _Plan, results: Results, seeds: int) -> None:
    """Whatever has not ended well yet, seed by seed, so that what is there can be compared."""
    turns = [(name, seed) for seed in range(seeds) for name in (RANDOM, *plan.classes)]
    for place, (name, seed) in enumerate(turns, 1):
        if results.has(name, seed):
            continue
        if plan.training["verbose"]:
            print(f"\nRun {place} of {len(turns)}: {name}, seed {seed}", flush=True)
        with _forgetting():
            result = _result(plan, name, seed, results.folder(name, seed))
        results.keep(name, seed, result)


def _result(plan: _Plan, name: str, seed: int, folder: pathlib.Path) -> dict:
    """The result of one run, or why it failed."""
    if name != RANDOM:
        return _attempt(plan, name, seed, folder)
    card = evaluate(plan.untrained(seed), out=folder / CARD, **plan.judging)
    return {"name": "random encoder", **_judged(card)}


def _attempt(plan: _Plan, name: str, seed: int, folder: pathlib.Path) -> dict:
    """Pretrain and evaluate; what came of it."""
    called = {"name": plan.classes[name].__name__}
    start, whole = time.monotonic(), not (folder / "config.json").exists()
    try:
        run = pretrain(out=folder, **plan.of_run(name, seed))
        card = evaluate(folder, **plan.judging)
    except Exception as error:  # the other runs are worth having whatever happened to this one
        if not isinstance(error, _KNOWN):
            traceback.print_exc()
        return {**called, "failed": f"{type(error).__name__}: {error}"}
    minutes = (time.monotonic() - start) / 60
    return {
        **called,
        **_judged(card),
        "minutes": minutes if whole else None,  # of a run that was interrupted they are unknown
        "knn": [row.get("knn", math.nan) for row in run.metrics],
        "verdict": None if run.verdict is None else dataclasses.asdict(run.verdict),
    }


def _judged(card: Card) -> dict:
    """The scores of a card, a number each, and its hash."""
    scores = {}
    for protocol, found in card.scores.items():
        if protocol == "lowshot":
            for share, kinds in found.items():
                scores |= {f"{share}, {kind}": value["mean"] for kind, value in kinds.items()}
        elif protocol == "layers":
            scores |= {f"linear, after {layer}": value for layer, value in found.items()}
        else:
            scores[protocol] = found["fine-tuned" if protocol == "finetune" else "encoder"]
    return {"scores": scores, "hash": card.hash}


@contextlib.contextmanager
def _forgetting():
    """Afterwards networks are let go."""
    try:
        with forgetting():
            yield
    finally:
        precisions.clear_session()


def _finish(plan: _Plan, results: Results, settings: dict) -> Comparison:
    """The page and the table; an error if runs failed."""
    rows, test = results.rows(), plan.judging["test"]
    size = plan.training["image_size"]
    images, labels = test.arrays((size, size), limit=_ON_MAP)
    failed = _failures(rows)
    page = report.write_comparison(
        results.path / PAGE,
        title=f"{len(rows) - 1} methods on {settings['data']}",
        lines=[_line(plan, results, row, images) for row in rows],
        note=_note(plan, rows),
        settings=_shown(settings),
        seeds=by_seed(rows),
        labels=labels,
        class_names=test.class_names,
        failed=failed and f"{failed} The table says why.",
    )
    print("\n" + _table(rows) + f"\n\ntable  {results.path / RECORD}\npage   {page}")
    if failed:
        why = " ".join(f"{row['name']}, {reasons(row)}" for row in rows if row["failed"])
        raise RuntimeError(f"{failed} All others are in {results.path}. {why}")
    return Comparison(results.path, rows, page)


def _line(plan: _Plan, results: Results, row: dict, images: np.ndarray) -> report.Line:
    """What the page shows of a row."""
    method = row["method"]
    runs = {s: r for s, r in results.runs[method].items() if "scores" in r}
    features = None
    if runs:
        with _forgetting():
            features = _features(plan, results, method, next(iter(runs)), images)
    knn = [r["knn"] for r in runs.values() if "knn" in r]
    verdicts = {}
    for seed, result in runs.items():
        if method != RANDOM:
            verdict = result["verdict"] or {"status": "", "message": ""}
            verdicts[seed] = (
                verdict["status"],
                verdict["message"],
                f"{method}/seed-{seed}/report.html",
            )
    return report.Line(
        row["name"],
        cells(row),
        np.mean(np.array(knn, float), axis=0).tolist() if knn else [],
        verdicts,
        features,
    )


def _features(
    plan: _Plan, results: Results, method: str, seed: str, images: np.ndarray
) -> np.ndarray:
    if method == RANDOM:
        network = plan.untrained(int(seed))
    else:
        network = load_encoder(results.folder(method, seed))
    return evaluation.extract(network.predict_on_batch, images)


def _note(plan: _Plan, rows: list) -> str:
    protocols = sorted({row["protocol_hash"] for row in rows if row["scores"]})
    labelled = [cls.__name__ for cls in plan.classes.values() if "label" in cls.batch_keys]
    return (
        f"Accuracy in % on {plan.judging['test'].size} test images, learnt from "
        f"{plan.judging['data'].size}; mean over seeds, ± their standard deviation (n - 1). "
        f"Protocol {', '.join(protocols)}."
        + (f" Pretraining itself uses the labels: {', '.join(labelled)}." if labelled else "")
    )


def _shown(settings: dict) -> dict:
    """The settings for the page: lists as text, without checksums."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in settings.items()
        if value is not None and not isinstance(value, dict)
    }


def _table(rows: list) -> str:
    """The rows for the screen."""
    shown = [{"": row["name"], **cells(row)} for row in rows]
    names = list(dict.fromkeys(name for line in shown for name in line))
    lines = [names, *([line.get(name, "") for name in names] for line in shown)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def _failures(rows: list) -> str:
    """How many runs failed, in a sentence; empty if none did."""
    failed = sum(len(row["failed"]) for row in rows)
    count = failed + sum(len(row["seeds"]) for row in rows if row["method"] != RANDOM)
    return f"{failed} of {count} runs failed. The same call tries them again." if failed else ""


def _recorded(out: Any, name: str) -> Any:
    """A setting of the comparison in the folder `out`; None where there is none."""
    try:
        return read_record(pathlib.Path(out) / RECORD)["settings"][name]
    except (OSError, ValueError, KeyError, TypeError):  # `Results` says what is wrong with it
        return None
