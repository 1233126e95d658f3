"""The evaluation of an encoder in one call: scores, and a card that tells how they were got."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

import keras_ssl
from keras_ssl import data as data_module
from keras_ssl import evaluation, report
from keras_ssl.backbones import Backbone, stages, until
from keras_ssl.data import Source
from keras_ssl.data.folder import CORRUPT, PIXELS
from keras_ssl.encoders import check_channels, checksum, load_encoder, saved_model_of
from keras_ssl.ops.names import near
from keras_ssl.runs.folder import write_atomically

PROTOCOLS = ("knn", "linear", "layers", "lowshot", "finetune")
NEIGHBOURS, TEMPERATURE = 200, 0.07
CARD = "evaluation.json"  # in a run folder


@dataclasses.dataclass(frozen=True)
class Card:
    """What an encoder can do, on what, and exactly how that was measured.

    Attributes:
        encoder: its name, layer, parameters, width, image shape, and a checksum of its weights.
        data: fingerprints of the training and the test images, and their numbers.
        protocol: settings of each protocol, and the versions it was run with.
        hash: checksum of `data` and `protocol`: cards of one hash can be compared.
        scores: accuracies by protocol; `random` is the same network with new initial weights.
    """

    encoder: dict
    data: dict
    protocol: dict
    hash: str
    scores: dict

    def rows(self) -> dict[str, dict[str, str]]:
        """The scores as text: columns by name, by the name of the row."""
        return _rows(self.scores)

    def save(self, path: str | os.PathLike) -> pathlib.Path:
        """Write the card as JSON."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        return path


def evaluate(
    encoder: Any,
    data: Any,
    out: Any = None,
    *,
    protocols: Any = "knn,linear",
    test: Any = None,
    layer: str | None = None,
    fractions: Any = "0.01,0.1",
    draws: int = 5,
    baseline: bool = True,
    seed: int = 0,
    batch_size: int = 256,
    data_dir: Any = None,
    download: bool = False,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
    allow_code: bool = False,
    verbose: Any = "auto",
) -> Card:
    """Evaluate an encoder on labelled images by one or more protocols.

    `knn` (weighted, k 200, temperature 0.07), `linear` (logistic regression on frozen features),
    `layers` (the same for each stage of the network), `lowshot` (with shares of the labels, on
    several draws: logistic regression, and the whole network fine-tuned beside one trained on these
    labels alone), `finetune` (the last two with all labels). The card is printed as a table and
    written as JSON; where the encoder is a run folder, its report gets it, too.

    Args:
        encoder: a run folder, a `.keras` file or a SavedModel; in Python also a model.
        data: labelled images: a folder with one sub-folder a class, a TFDS name, an `.npz` file, or
            `shapes`.
        out: the card, a JSON file; by default `evaluation.json` in a run folder, else none.
        protocols: names of protocols with commas between them.
        test: labelled images for the scores, in the forms of `data`; by default the data set's own
            test split, or a tenth held out.
        layer: name of an inner stage whose features are evaluated; by default the last.
        fractions: shares of the labels for `lowshot`, with commas between them.
        draws: draws of each share.
        baseline: whether the same network with new initial weights is evaluated beside it, and
            trained on the labels alone; a SavedModel has none.
        seed: of held-out images, draws and training.
        batch_size: images per call of the encoder.
        data_dir: where TFDS data sets are stored.
        download: whether TFDS may download and prepare a data set that is not there.
        max_corrupt_fraction: share of unreadable image files above which reading stops.
        max_pixels: pixels of an image file above which it counts as unreadable.
        allow_code: whether a `.keras` file may bring code of its own (Lambda layers).
        verbose: 0 for neither progress bars nor table.

    Returns:
        A `Card`.

    Raises:
        ValueError: for an encoder, images or settings that cannot be used: labels missing, other
            channels than the encoder's, shares of the labels that leave a class without an image.
    """
    names = names_of("protocols", protocols, PROTOCOLS)
    shares = shares_of(fractions) if "lowshot" in names else ()
    folder = _run_folder(encoder)
    out = pathlib.Path(out) if out is not None else folder and folder / CARD
    if out is not None and out.is_dir():
        raise ValueError(f"`out` must be a file, such as card.json. Received: the folder {out}.")
    network = load_encoder(encoder, allow_code=allow_code)
    network = until(network, layer) if layer else network
    train, held_out = data_module.splits(
        data,
        test=test,
        image_size=network.image_shape[0],
        data_dir=data_dir,
        seed=seed,
        download=download,
        max_corrupt_fraction=max_corrupt_fraction,
        max_pixels=max_pixels,
    )
    check_images(network, train, held_out)
    for share in shares:
        evaluation.draw_labels(train.labels, share, seed)  # before anything is computed
    job = _Job(network, train, held_out, shares, draws, baseline, seed, batch_size, verbose)
    settings, scores = {}, {}
    for name in names:
        settings[name], scores[name] = _RUN[name](job)
    protocol = {**settings, "seed": seed, "keras_ssl": keras_ssl.__version__}
    about = {"train": train.fingerprint(), "test": held_out.fingerprint(), "name": train.name}
    card = Card(_described(network, layer), about, protocol, _hash(about, protocol), scores)
    if out is not None:
        card.save(out)
    if folder is not None and (folder / "report.html").is_file():
        report.add_evaluation(folder / "report.html", dataclasses.asdict(card), card.rows())
    if verbose:
        print(_table(card) + (f"\n\ncard  {out}" if out else ""))
    return card


class _Job:
    """One evaluation: what it is on, and features that several protocols share."""

    def __init__(self, encoder, train, test, shares, draws, baseline, seed, batch_size, verbose):
        self.encoder, self.train, self.test = encoder, train, test
        self.shares, self.draws, self.seed = shares, draws, seed
        self.batch_size, self.verbose = batch_size, verbose
        self.networks = {"encoder": encoder}
        if baseline and saved_model_of(encoder) is None:
            keras.utils.set_random_seed(seed)
            self.networks["random"] = evaluation.fresh(encoder)
        self._features = {}

    def features(self, name):
        """((features, labels) of the training images, the same of the test images)."""
        if name not in self._features:
            network = self.networks[name]
            self._features[name] = tuple(
                evaluation.labelled_features(
                    network.predict_on_batch,
                    source,
                    self.batch_size,
                    network.image_shape[:2],
                    progress=f"{name}, {part} images" if self.verbose else None,
                )
                for part, source in (("training", self.train), ("test", self.test))
            )
        return self._features[name]

    def tune(self, name, rows=None, seed=0):
        """`fine_tune` from the weights of a network."""
        if name == "random":
            keras.utils.set_random_seed(seed)
            network = evaluation.fresh(self.encoder)
        else:
            network = self.encoder
        return evaluation.fine_tune(network, self.train, self.test, rows=rows, seed=seed)


def _knn(job):
    scores = {
        name: evaluation.knn_accuracy(_same, *job.features(name), NEIGHBOURS, TEMPERATURE)
        for name in job.networks
    }
    return {"k": NEIGHBOURS, "temperature": TEMPERATURE}, scores


def _linear(job):
    probes = {
        name: evaluation.linear_probe(_same, *job.features(name), seed=job.seed)
        for name in job.networks
    }
    chosen = {"solver": probes["encoder"].solver, "parameter": probes["encoder"].parameter}
    return chosen, {name: probe.accuracy for name, probe in probes.items()}


def _layers(job):
    probes = evaluation.layer_probe(
        {name: stage.predict_on_batch for name, stage in stages(job.encoder).items()},
        job.train,
        job.test,
        job.seed,
        job.batch_size,
        job.encoder.image_shape[:2],
        progress=bool(job.verbose),
    )
    return {"features": "mean over places"}, {n: p.accuracy for n, p in probes.items()}


def _lowshot(job):
    scores = {}
    for name in job.networks:
        results = evaluation.low_shot(_same, *job.features(name), job.shares, job.draws, job.seed)
        kind = "linear" if name == "encoder" else "linear, random"
        for each in results:
            scores.setdefault(_percent(each.fraction), {})[kind] = _spread(each)
    tuned = None
    for share in job.shares:
        for name, kind in (("encoder", "fine-tuned"), ("random", "from scratch")):
            if name not in job.networks:
                continue
            found = []
            for seed in range(job.seed, job.seed + job.draws):
                rows = evaluation.draw_labels(job.train.labels, share, seed)
                tuned = job.tune(name, rows, seed)
                found.append(tuned.accuracy)
            drawn = evaluation.LowShot(share, len(rows), tuple(found))
            scores[_percent(share)][kind] = _spread(drawn) | {"images": len(rows)}
    settings = {"fractions": list(job.shares), "draws": job.draws}
    return settings | _tuning(tuned), scores


def _finetune(job):
    results = {name: job.tune(name, seed=job.seed) for name in job.networks}
    names = {"encoder": "fine-tuned", "random": "from scratch"}
    scores = {names[name]: result.accuracy for name, result in results.items()}
    return _tuning(results["encoder"]), scores


_RUN = {
    "knn": _knn,
    "linear": _linear,
    "layers": _layers,
    "lowshot": _lowshot,
    "finetune": _finetune,
}


def _tuning(result):
    return {
        "optimizer": "adam",
        "learning_rate": result.learning_rate,
        "epochs": result.epochs,
        "batch_size": result.batch_size,
    }


def _spread(result):
    return {"mean": result.mean, "std": result.std, "draws": list(result.accuracies)}


def _same(features):
    return features


def _rows(scores):
    rows = {}
    for protocol, found in scores.items():
        if protocol == "lowshot":
            for share, kinds in found.items():
                rows[f"lowshot, {share} of the labels"] = {
                    kind: f"{100 * v['mean']:.1f} ± {100 * v['std']:.1f}"
                    for kind, v in kinds.items()
                }
        elif protocol == "layers":
            for layer, value in found.items():
                rows[f"linear, after {layer}"] = {"encoder": f"{100 * value:.1f}"}
        else:
            rows[protocol] = {name: f"{100 * value:.1f}" for name, value in found.items()}
    return rows


def _table(card):
    """The card for the screen: one line a score."""
    rows = card.rows()
    width = max(map(len, rows))
    lines = [
        f"{name:{width}}  " + "   ".join(f"{kind} {value}" for kind, value in columns.items())
        for name, columns in rows.items()
    ]
    train, test = card.data["train"]["size"], card.data["test"]["size"]
    head = f"accuracy in %, {train} labelled images, {test} test images, protocol {card.hash}"
    return "\n".join(["", head, "", *lines])


def show_again(page: pathlib.Path, network: Backbone) -> None:
    """Put the card that lies beside a new page into it, if it is of these weights."""
    try:
        card = Card(**json.loads((page.parent / CARD).read_text()))
        same = card.encoder["digest"] == _digest(network)
    except (OSError, ValueError, TypeError, KeyError):  # none, or another file of that name
        return
    if same:
        report.add_evaluation(page, dataclasses.asdict(card), card.rows())


def _digest(network):
    return checksum(network).hex()[:16]


def _described(network, layer):
    return {
        "name": network.name,
        "layer": layer,
        "parameters": network.count_params(),
        "features": network.feature_dim,
        "image_shape": list(network.image_shape),
        "digest": _digest(network),
    }


def _hash(*parts):
    text = json.dumps([_untimed(part) for part in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _untimed(part):
    """Without what differs between copies of the same images."""
    if not isinstance(part, dict):
        return part
    return {k: _untimed(v) for k, v in part.items() if k not in ("times", "name")}


def _run_folder(encoder):
    if not isinstance(encoder, str | os.PathLike):
        return None
    path = pathlib.Path(encoder)
    return path if (path / "config.json").is_file() else None


def _percent(share):
    return f"{100 * share:g}%"


def names_of(argument, value, known):
    """A list of names from text with commas, or from a list."""
    names = [v.strip() for v in value.split(",")] if isinstance(value, str) else list(value)
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise ValueError(
            f"`{argument}` must be of {', '.join(known)}. Received: {argument}={value!r}."
            + (near(str(wrong[0]), known) if wrong else "")
        )
    return list(dict.fromkeys(names))


def shares_of(fractions):
    """Shares of the labels from text with commas, or from numbers."""
    given = fractions.split(",") if isinstance(fractions, str) else fractions
    given = given if isinstance(given, Sequence) else [given]
    try:
        shares = [float(share) for share in given]
    except (TypeError, ValueError):
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(
            "`fractions` must be numbers in (0, 1], with commas between them. Received: "
            f"fractions={fractions!r}."
        )
    return tuple(dict.fromkeys(shares))


def check_images(network: Backbone, train: Source, test: Source | None) -> None:
    """Raise where an encoder cannot be evaluated on these images."""
    for source in (train, test):
        if source is not None:
            check_channels(network, source)
    if test is None or not train.has_labels:
        raise ValueError(
            "Evaluation needs labelled images, and some held out. Received: "
            f"{train.name}, {'which is too small' if train.has_labels else 'without labels'}. Sort "
            "the images into one sub-folder a class (at least two), or give `test`."
        )
