"""The main job in one call: images in, an encoder and a report out, killed or not."""

import dataclasses
import json
import os
import pathlib
import zlib
from typing import Any

import keras

import keras_ssl
from keras_ssl import data as data_module
from keras_ssl import distribute, evaluation, optimizers, report
from keras_ssl.callbacks import CollapseMonitor, TensorBoardScalars
from keras_ssl.data.folder import CORRUPT, PIXELS
from keras_ssl.encoders import BACKBONE, copy_encoder
from keras_ssl.engine import SSLModel, inputs
from keras_ssl.engine import optimizer as frame
from keras_ssl.export import export_encoder, save_backbone
from keras_ssl.methods import create as methods
from keras_ssl.ops.names import some
from keras_ssl.runs import figures, precisions, teachers, watch
from keras_ssl.runs.evaluate import show_again
from keras_ssl.runs.folder import Recorder, RunFolder, guard, recorded

_NAMES = ("name", "seed")  # settings of layers that differ from process to process


@dataclasses.dataclass(frozen=True)
class Run:
    """What `pretrain` leaves behind.

    Attributes:
        model: the trained method.
        out: the run folder.
        encoder: the SavedModel in it.
        report: the page in it.
        metrics: a dict an epoch, epoch 0 being the untrained network.
        verdict: the collapse monitor's last verdict, or None without the monitor.
    """

    model: SSLModel
    out: pathlib.Path
    encoder: pathlib.Path
    report: pathlib.Path
    metrics: list
    verdict: object


def pretrain(
    method: Any = "simclr",
    data: Any = "shapes",
    out: Any = "runs/1",
    *,
    backbone: Any = None,
    image_size: int | None = None,
    epochs: int = 100,
    batch_size: int | None = None,
    seed: int = 0,
    test: Any = None,
    data_dir: Any = None,
    download: bool = False,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
    precision: str = "auto",
    optimizer: str = "auto",
    gradient_accumulation_steps: int | None = None,
    strategy: Any = "auto",
    monitor: bool = True,
    checkpoint_every: int = 1,
    method_options: dict | None = None,
    verbose: Any = "auto",
) -> Run:
    """Pretrain an encoder on images and write it, with a report, to a run folder.

    The same call on the same `out` continues a run that was stopped or killed, and ends with the
    same weights, bit for bit (on one CPU device). Where TF_CONFIG describes several processes, the
    same call in each of them trains together; `out` must be a folder that all can read, to which
    the chief alone writes.

    Args:
        method: name of a method of keras_ssl (`keras-ssl methods` lists them).
        data: a folder of images (sub-folders, where there are any, are labels for evaluation
            alone), a TFDS name, an `.npz` file, `shapes` (drawn here); in Python also an array or
            a `keras_ssl.data.Source`.
        out: the run folder: `config.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`,
            `encoder/`, `encoder.keras`, `backbone.keras`, `report.html` (and `teacher.keras` where
            the method has a frozen teacher and keeps it). The same command continues the run in it,
            and with more `epochs` goes on beyond its end.
        backbone: name of a backbone, or in Python a model; by default resnet18, and none for
            methods that bring their own network.
        image_size: height and width of the views, one number; by default the images' own, at most
            224.
        epochs: passes over the images.
        batch_size: images in the global batch; by default 256, or the number of images if smaller.
        seed: of weights, order and views.
        test: labelled images for the kNN monitor and the figures of generative methods, in the
            forms of `data`; by default the data set's own test split, or a tenth held out of
            labelled images.
        data_dir: where TFDS data sets are stored.
        download: whether TFDS may download and prepare a data set that is not there.
        max_corrupt_fraction: share of unreadable image files above which the run stops; others are
            skipped, and named in the table and the report.
        max_pixels: pixels of an image file above which it counts as unreadable.
        precision: number format: float32, mixed_bfloat16, mixed_float16, or `auto`: mixed_bfloat16
            where this machine computes faster in it, else float32.
        optimizer: `auto` (the paper's where the run has steps enough for it, else one that learns
            in few) or `paper`.
        gradient_accumulation_steps: batches whose gradients are averaged before the optimizer moves
            (contrastive methods still compare within a batch).
        strategy: `auto` (the processes of TF_CONFIG, else all GPUs of this machine), `one` (one
            device), or in Python a `tf.distribute.Strategy`.
        monitor: whether the collapse monitor watches every epoch.
        checkpoint_every: epochs between checkpoints.
        method_options: dict of further arguments for the method.
        verbose: as in `keras.Model.fit`.

    Returns:
        A `Run`.

    Raises:
        ValueError: for settings, images or an output folder that cannot be used; nothing is written
            over.
        RuntimeError: if training diverges or saving fails; the last good checkpoint is kept.
    """
    check_settings(
        optimizer,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        checkpoint_every=checkpoint_every,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
    strategy = distribute.resolve(strategy)  # first: several processes must be set up before all
    cls, options = methods.find(method), method_options or {}
    methods.check_options(cls, options)  # before images are read
    methods.check_needed(cls, options)
    options = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}
    given = teachers.given(cls, options, out)
    reason = None if cls.half_precision else f"{cls.__name__} learns worse in bfloat16"
    if distribute.is_multi_worker(strategy):  # of machines that may differ
        reason = "several processes train together"
    precision, why = precisions.resolve(precision, recorded(out, "precision"), reason)
    if verbose and distribute.is_chief(strategy):
        print(why)
    keras.utils.set_random_seed(seed)
    source, test_source = data_module.splits(
        data,
        test=test,
        image_size=image_size,
        data_dir=data_dir,
        seed=seed,
        download=download,
        max_corrupt_fraction=max_corrupt_fraction,
        max_pixels=max_pixels,
    )
    size = min(224, *source.typical_size) if image_size is None else image_size
    network = methods.DEFAULT_BACKBONE if backbone is None else backbone
    settings = {
        "method": method if isinstance(method, str) else cls.__name__,
        "method_options": options,
        "data": source.name,
        "backbone": network if isinstance(network, str) else network.name,
        "image_size": size,
        "seed": seed,
        "precision": precision,
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    if methods.keeps_images(cls):
        given = {"num_images": source.size, **given}
    with precisions.policy(precision):
        with distribute.scope(strategy):
            model = methods.create(cls, (size, size, source.image_shape[2]), backbone, **given)
        return train(
            model,
            source,
            out,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            settings=settings,
            test=test_source,
            optimizer=optimizer,
            gradient_accumulation_steps=gradient_accumulation_steps,
            monitor=monitor,
            checkpoint_every=checkpoint_every,
            verbose=verbose,
        )


def train(
    model,
    source,
    out,
    *,
    epochs,
    settings,
    batch_size=None,
    seed=0,
    test=None,
    views=None,
    optimizer="auto",
    gradient_accumulation_steps=None,
    monitor=True,
    checkpoint_every=1,
    knn_every=1,
    verbose="auto",
):
    """Train a ready `model` in the run folder `out`; `pretrain` and the recipes end here.

    Args:
        model: an `SSLModel`, compiled or not (then with its default optimizer).
        source: `keras_ssl.data.Source` of training images.
        out: the run folder.
        epochs: passes over the images.
        settings: JSON-able dict that identifies the run, besides images and batch size.
        batch_size: see `SSLModel.fit`.
        seed: of order and views.
        test: labelled `Source` for the kNN monitor, used if `source` has labels too; figures of
            generative methods use its images, or training images without it.
        views: view pipeline in the place of the method's.
        optimizer: see `pretrain`; used if `model` is not compiled.
        gradient_accumulation_steps: see `pretrain`.
        monitor: see `pretrain`.
        checkpoint_every: see `pretrain`.
        knn_every: epochs between kNN figures.
        verbose: as in `keras.Model.fit`.

    Returns:
        A `Run`.
    """
    _check_backbone(model)
    batch_size = inputs.batch_size_for(source, batch_size)
    views = views or model.default_views(model.image_shape[:2])
    inputs.check(model, source, views, batch_size)  # before anything is written
    chief = distribute.is_chief(frame.strategy(model))
    say = print if chief and verbose else lambda text: None
    inputs.cut_queues(model, source.size, say)
    if not model.compiled:
        taken = frame.compile_default(
            model,
            epochs,
            source.size // batch_size,
            batch_size,
            gradient_accumulation_steps,
            optimizer,
        )
        say(taken)
        settings = {
            **settings,
            "optimizer": {
                "choice": optimizer,
                "class": type(optimizers.inner(model.optimizer)).__name__,
                "note": taken,
            },
        }
    settings = {
        **settings,
        "epochs": epochs,
        "batch_size": batch_size,
        "images": source.fingerprint(),
        "test": None if test is None else test.fingerprint(),
        "network": architecture(model.backbone),
        "version": keras_ssl.__version__,
    }
    folder = RunFolder(out, settings, writes=chief)
    try:
        # First of all: what follows makes variables, which all processes must do together.
        where = f"epochs done in {folder.path}"
        distribute.check_agreement(folder.epochs_done(), frame.strategy(model), where)
        done = folder.restore(model)
        if chief:
            teachers.keep(model, folder.path)
        if folder.epochs_before is not None:
            folder.extend()
            say(_extension(model, folder.epochs_before, epochs, done))
        probe, watchers = None, []
        if chief:  # the monitors look at the chief's copy of the weights, which is everyone's
            probe = watch.Probe(model, source, test, views, seed)
            watchers = watch.watchers(model, source, test, probe, monitor, knn_every)
        if not folder.rows:
            folder.rows.append({"epoch": 0, **watch.measure(model, watchers)})
        watch.resume(model, watchers, folder.rows)
        if done < epochs:
            board = [TensorBoardScalars(folder.path / "tensorboard")] if chief else []
            recorder = Recorder(folder, checkpoint_every, epochs)
            model.fit(
                source,
                batch_size=batch_size,
                epochs=epochs,
                initial_epoch=done,
                views=views,
                seed=seed,
                verbose=verbose if chief else 0,
                callbacks=[guard(folder), *watchers, *board, recorder],
            )
        if chief:
            return _finish(model, folder, source, settings, watchers, probe)
        return Run(model, folder.path, folder.encoder, folder.report, folder.rows, None)
    finally:
        folder.close()


def _finish(model, folder, source, settings, watchers, probe):
    """Write encoder and report, print the table."""
    export_encoder(model, folder.encoder)
    export_encoder(model, folder.path / "encoder.keras", format="keras")
    save_backbone(model.backbone, folder.path / BACKBONE)
    verdict = next((w.verdict for w in watchers if isinstance(w, CollapseMonitor)), None)
    judged, described = probe.judged
    table = figures.table(model, folder.rows, judged, described) | _skipped(source)
    report.write_report(
        folder.report,
        title=f"{type(model).__name__} on {source.name}",
        settings=settings,
        metrics=folder.rows,
        views=probe.view_rows,
        **figures.pictures(model, judged),
        images=probe.images,
        features=evaluation.extract(model.encode, probe.images),
        untrained_features=probe.untrained,
        labels=probe.labels,
        class_names=source.class_names,
        verdict=verdict,
        extra=table,
    )
    show_again(folder.report, model.backbone)
    lines = dict(table)
    if verdict is not None:
        lines["collapse monitor"] = f"{verdict.status}: {verdict.message}"
    lines |= {"encoder": str(folder.encoder), "report": str(folder.report)}
    width = max(map(len, lines))
    print("\n" + "\n".join(f"{name:{width}}  {value}" for name, value in lines.items()))
    return Run(model, folder.path, folder.encoder, folder.report, folder.rows, verdict)


def _skipped(source):
    """The line of the table on unreadable files, where there were any."""
    names = source.corrupt
    return {"unreadable files, skipped": f"{len(names)}: {some(names)}"} if names else {}


def check_settings(optimizer, **numbers):
    """Raise for an unknown `optimizer`, or for numbers that are neither None nor positive."""
    for name, value in numbers.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}.")
    if optimizer not in frame.CHOICES:
        raise ValueError(
            f"`optimizer` must be one of {frame.CHOICES}. Received: optimizer={optimizer!r}."
        )


def _check_backbone(model):
    """Raise where the encoder could not be written at the end of the run."""
    try:
        copy_encoder(model.backbone)
    except Exception as error:  # whatever a layer's `from_config` may raise
        raise ValueError(
            f"The backbone must be one that Keras can copy and save. Received: "
            f"{model.backbone.name}, whose copy fails: {error} Register the classes of your own "
            "with keras.saving.register_keras_serializable, and write a layer in the place of "
            "Lambda."
        ) from error


def architecture(backbone):
    """A checksum of the layers, their plain settings and shapes, without names."""
    layers = [
        [
            type(layer).__name__,
            {k: v for k, v in layer.get_config().items() if k not in _NAMES and _is_plain(v)},
            [list(weight.shape) for weight in layer.weights],
        ]
        for layer in backbone._flatten_layers()
        if not isinstance(layer, keras.Model)
    ]
    text = json.dumps(layers, sort_keys=True)
    return {"parameters": backbone.count_params(), "digest": zlib.crc32(text.encode())}


def _is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _extension(model, before, epochs, done):
    """What going on beyond the old end of a run means, in a sentence."""
    rates = [
        float(keras.ops.convert_to_numpy(o.learning_rate)) for o in optimizers.each(model.optimizer)
    ]
    return (
        f"The run of {before} epochs goes on to {epochs}: from epoch {done} on, learning rate and "
        f"all other schedules are those of a run of {epochs} epochs. The rate is "
        f"{' and '.join(f'{rate:.3g}' for rate in rates)} now."
    )
