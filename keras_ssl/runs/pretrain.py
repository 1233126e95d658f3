"""The main job in one call: images in, an encoder and a report out, killed or not."""

import dataclasses
import json
import math
import os
import pathlib
import zlib
from typing import Any, Literal

import keras

import keras_ssl
from keras_ssl import backbones, distribute, evaluation, optimizers, report
from keras_ssl import data as data_module
from keras_ssl.callbacks import CollapseMonitor, SampleWriter, TensorBoardScalars
from keras_ssl.data.folder import CORRUPT, PIXELS
from keras_ssl.encoders import (
    BACKBONE,
    check_channels,
    checksum,
    copy_encoder,
    load_encoder,
    saved_model_of,
)
from keras_ssl.engine import SSLModel, inputs
from keras_ssl.engine import optimizer as frame
from keras_ssl.export import export_encoder, save_backbone
from keras_ssl.methods import create as methods
from keras_ssl.ops.names import some
from keras_ssl.runs import batches, figures, precisions, teachers, watch
from keras_ssl.runs.evaluate import show_again
from keras_ssl.runs.folder import (
    Recorder,
    RunFolder,
    check_ahead,
    guard,
    has_stalled,
    recorded,
)
from keras_ssl.runs.plugins import imported

_SHEETS = 10  # of samples in a run
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
    weights: Any = None,
    image_size: int | None = None,
    epochs: int = 100,
    batch_size: Literal["auto"] | int | None = None,
    seed: int = 0,
    test: Any = None,
    data_dir: Any = None,
    download: bool = False,
    max_corrupt_fraction: float = CORRUPT,
    max_pixels: int = PIXELS,
    precision: str = "auto",
    optimizer: str = "auto",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    layer_decay: float | None = None,
    gradient_accumulation_steps: int | None = None,
    strategy: Any = "auto",
    monitor: bool = True,
    early_stopping: int | None = None,
    callbacks: Any = None,
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
            the method has a frozen teacher and keeps it, `samples/` where it makes images). The
            same command continues the run in it, and with more `epochs` goes on beyond its end.
        backbone: name of a backbone, LIBRARY:NAME of another library's (such as
            keras_applications:EfficientNetV2B0 or keras_hub:dinov2_small), or in Python a model; by
            default resnet18 (vit_tiny for methods of vision transformers), and none for methods
            that bring their own network.
        weights: a run folder or a `.keras` file whose encoder is trained further, in the place of
            `backbone`; in Python also a model.
        image_size: height and width of the views, one number; by default the images' own, at most
            224 (32 or 64 for models of single pixels).
        epochs: passes over the images.
        batch_size: images in the global batch, a number or `auto`: the largest power of two that
            takes at most 80 % of the memory, has at most 4096 images and leaves an epoch 16 steps
            (32 images in any case); by default 256 (32 in short runs of methods that hide
            patches), or the number of images if smaller.
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
        optimizer: `paper`; `gentle`, for networks that are trained already: AdamW at a small rate;
            or `auto`: gentle where `weights` or a library's trained backbone is given, else the
            paper's where the run has steps enough for it, else one that learns in few.
        learning_rate: peak rate in the place of the default's.
        weight_decay: in the place of the default optimizer's.
        layer_decay: of the gentle optimizer: factor of the rate from each stage of the backbone to
            the one before it, in (0, 1]; by default 1.
        gradient_accumulation_steps: batches whose gradients are averaged before the optimizer moves
            (contrastive methods still compare within a batch).
        strategy: `auto` (the processes of TF_CONFIG, else all GPUs of this machine), `one` (one
            device), or in Python a `tf.distribute.Strategy`.
        monitor: whether the collapse monitor watches every epoch.
        early_stopping: epochs without a better kNN accuracy (or, without labels, a lower loss)
            after which the run ends; its schedules are still those of `epochs`.
        callbacks: Keras callbacks of your own, as import paths (module:Class, made without
            arguments, or module:object) with commas between them; in Python also callbacks.
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
    batches.check(batch_size, strategy)
    check_settings(
        optimizer,
        epochs=epochs,
        batch_size=None if batch_size == batches.AUTO else batch_size,
        image_size=image_size,
        checkpoint_every=checkpoint_every,
        early_stopping=early_stopping,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
    _check_rates(learning_rate, weight_decay)
    callbacks = imported(callbacks)
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
    say = print if verbose and distribute.is_chief(strategy) else lambda text: None
    say(why)
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
    encoder = None if weights is None else _start(weights, backbone, source)
    own = min(cls.image_side, *source.typical_size)
    size = image_size or (encoder.image_shape[0] if encoder else own)
    if optimizer == "auto" and (encoder is not None or backbones.is_trained(backbone)):
        optimizer = "gentle"
    network = encoder or (methods.default_backbone(cls) if backbone is None else backbone)
    shape = (size, size, source.image_shape[2])
    settings = {
        "method": method if isinstance(method, str) else cls.__name__,
        "method_options": options,
        "data": source.name,
        "backbone": None if methods.brings_network(cls) else getattr(network, "name", network),
        "image_size": size,
        "seed": seed,
        "precision": precision,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        **({} if encoder is None else {"weights": checksum(encoder).hex()[:16]}),
    }
    if methods.keeps_images(cls):
        given = {"num_images": source.size, **given}

    def make(to_try=False):
        with distribute.scope(strategy):
            network = encoder or backbone
            if encoder or (to_try and isinstance(backbone, keras.Model)):
                network = _copied(backbones.get(network, shape))
            return methods.create(cls, shape, network, **given)

    with precisions.policy(precision):
        if batch_size == batches.AUTO:
            check_ahead(out, settings)
            batch_size = batches.resolve(
                recorded(out, "batch_size"),
                lambda: make(to_try=True),
                source,
                say,
                strategy=strategy,
                seed=seed,
                epochs=epochs,
                optimizer=optimizer,
                accumulation=gradient_accumulation_steps,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
            )
        model = make()
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
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            gradient_accumulation_steps=gradient_accumulation_steps,
            monitor=monitor,
            early_stopping=early_stopping,
            callbacks=callbacks,
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
    learning_rate=None,
    weight_decay=None,
    layer_decay=None,
    gradient_accumulation_steps=None,
    monitor=True,
    early_stopping=None,
    callbacks=(),
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
        optimizer: see `pretrain`; used if `model` is not compiled, as are the next three.
        learning_rate: see `pretrain`.
        weight_decay: see `pretrain`.
        layer_decay: see `pretrain`.
        gradient_accumulation_steps: see `pretrain`.
        monitor: see `pretrain`.
        early_stopping: see `pretrain`.
        callbacks: Keras callbacks, before those that record the run.
        checkpoint_every: see `pretrain`.
        knn_every: epochs between kNN figures.
        verbose: as in `keras.Model.fit`.

    Returns:
        A `Run`.
    """
    _copied(model.backbone)  # or the encoder could not be written at the end of the run
    short_run = model.short_run if optimizer == "auto" else None
    if batch_size is None and short_run and recorded(out, "batch_size") == short_run.batch_size:
        batch_size = short_run.batch_size  # also where more epochs make the run a long one
    batch_size = inputs.batch_size_for(source, batch_size, short_run, epochs)
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
            None if layer_decay is None else _factors(model, optimizer, layer_decay),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        say(taken)
        settings = {
            **settings,
            "optimizer": {
                "choice": optimizer,
                "class": type(optimizers.inner(model.optimizer)).__name__,
                **({} if learning_rate is None else {"learning_rate": learning_rate}),
                **({} if weight_decay is None else {"weight_decay": weight_decay}),
                **({} if layer_decay is None else {"layer_decay": layer_decay}),
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
        **({} if early_stopping is None else {"early_stopping": early_stopping}),
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
        if done < epochs and not has_stalled(folder.rows, early_stopping):
            board = [TensorBoardScalars(folder.path / "tensorboard")] if chief else []
            if chief and model.can("sample"):
                board.append(SampleWriter(folder.path / "samples", every=-(-epochs // _SHEETS)))
            recorder = Recorder(folder, checkpoint_every, epochs, early_stopping)
            model.fit(
                source,
                batch_size=batch_size,
                epochs=epochs,
                initial_epoch=done,
                views=views,
                seed=seed,
                verbose=verbose if chief else 0,
                callbacks=[guard(folder), *watchers, *callbacks, *board, recorder],
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
    lengths = figures.code_lengths(model, judged)
    table = figures.table(model, folder.rows, judged, described, lengths) | _skipped(source)
    table |= _worse(folder.rows)
    report.write_report(
        folder.report,
        title=f"{type(model).__name__} on {source.name}",
        settings=settings,
        metrics=folder.rows,
        views=probe.view_rows,
        **figures.pictures(model, judged, probe.images),
        code_lengths=lengths,
        code_unit=model.code_unit,
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


def _worse(rows):
    """A line of the table where the encoder told more of the classes before it was trained."""
    first, last = (row.get("knn") for row in (rows[0], rows[-1]))
    if first is None or last is None or not last < first:
        return {}
    return {
        "worse than before": f"kNN accuracy fell from {first:.3f} to {last:.3f}: the encoder told "
        "more of the classes as it came. Try a tenth of the learning rate, another method, or more "
        "images and epochs."
    }


def _start(weights, backbone, source):
    """The encoder that training begins with."""
    if backbone is not None:
        raise ValueError(
            "`weights` bring their own network. Received: also backbone="
            f"{backbone if isinstance(backbone, str) else backbone.name!r}. Leave one of them out."
        )
    encoder = load_encoder(weights)
    if saved_model_of(encoder) is not None:
        raise ValueError(
            f"`weights` must be a run folder or a .keras file. Received: the SavedModel {weights}, "
            "which most methods cannot copy. Take the run that it was made from."
        )
    check_channels(encoder, source)
    return encoder


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


def _check_rates(learning_rate, weight_decay):
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise ValueError(
            f"`learning_rate` must be a number > 0. Received: learning_rate={learning_rate!r}."
        )
    if weight_decay is not None and not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"`weight_decay` must be a number >= 0. Received: weight_decay={weight_decay!r}."
        )


def _factors(model, optimizer, layer_decay):
    """Factors of the learning rate, one for each trainable variable."""
    if optimizer != "gentle":
        raise ValueError(
            "`layer_decay` is for networks that are trained already, with optimizer=gentle. "
            f"Received: layer_decay={layer_decay} with optimizer={optimizer}."
        )
    return backbones.rate_factors(model, model.backbone, layer_decay)


def _copied(backbone):
    """A copy of a network; raises where it, and what is written of it, cannot be made."""
    try:
        return copy_encoder(backbone)
    except Exception as error:  # whatever a layer's `from_config` may raise
        raise ValueError(
            f"The backbone must be one that Keras can copy and save. Received: "
            f"{backbone.name}, whose copy fails: {error} Register the classes of your own "
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
