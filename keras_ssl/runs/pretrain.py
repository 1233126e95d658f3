"""The main job in one call: images in, an encoder and a report out, killed or not."""

import contextlib
import dataclasses
import pathlib
import zlib

import keras
import numpy as np

import keras_ssl
from keras_ssl import data as data_module
from keras_ssl import distribute, evaluation, methods, report
from keras_ssl.callbacks import CollapseMonitor, TensorBoardScalars
from keras_ssl.engine import SSLModel, feed
from keras_ssl.export import export_encoder
from keras_ssl.runs import figures, watch
from keras_ssl.runs.folder import Recorder, RunFolder, guard


@dataclasses.dataclass(frozen=True)
class Run:
    """What `pretrain` leaves behind.

    Attributes:
        model: the trained method.
        out: the run folder.
        encoder: the SavedModel in it.
        report: the page in it.
        metrics: a dict an epoch, epoch 0 being the untrained network.
        verdict: the collapse monitor's last word, or None without the monitor.
    """

    model: SSLModel
    out: pathlib.Path
    encoder: pathlib.Path
    report: pathlib.Path
    metrics: list
    verdict: object


def pretrain(
    method="simclr",
    data="shapes",
    out="runs/1",
    *,
    backbone="resnet18",
    image_size=None,
    epochs=100,
    batch_size=None,
    seed=0,
    test=None,
    data_dir=None,
    precision=None,
    gradient_accumulation_steps=None,
    strategy="auto",
    monitor=True,
    checkpoint_every=1,
    method_options=None,
    verbose="auto",
):
    """Pretrain an encoder on images and write it, with a report, to a run folder.

    The same call on the same `out` continues a run that was stopped or killed, and ends with the
    same weights, bit for bit (on one CPU device).

    Args:
        method: name of a method of keras_ssl.
        data: a folder of images (sub-folders, where there are any, are labels for evaluation
            alone), a TFDS name, an `.npz` file, `"shapes"`, an array or a `keras_ssl.data.Source`.
        out: the run folder: `config.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`,
            `encoder/`, `encoder.keras`, `report.html`.
        backbone: name of a backbone, or a model.
        image_size: height and width of the views, one number; by default the images' own, at most
            224.
        epochs: passes over the images.
        batch_size: images in the global batch; by default 256, or the number of images if smaller.
        seed: of weights, order and views.
        test: labelled images for the kNN monitor and for judging generative methods, in the forms
            of `data`; by default the data set's own test split, or a tenth held out of labelled
            images.
        data_dir: where TFDS data sets lie.
        precision: Keras dtype policy, such as `"mixed_bfloat16"` or `"mixed_float16"`; float32 by
            default.
        gradient_accumulation_steps: batches whose gradients are averaged before the optimizer moves
            (contrastive methods still compare within a batch).
        strategy: `"auto"` (all GPUs of this machine), `"one"`, or a `tf.distribute.Strategy`.
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
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"`epochs` must be a positive integer. Received: epochs={epochs!r}.")
    keras.utils.set_random_seed(seed)
    source, test_source = data_module.splits(
        data, test=test, image_size=image_size, data_dir=data_dir, seed=seed
    )
    size = image_size or min(224, *source.typical_size)
    batch_size = batch_size or source.batch_size or min(256, source.size)
    settings = {
        "method": method,
        "method_options": method_options or {},
        "data": source.name,
        "backbone": backbone if isinstance(backbone, str) else backbone.name,
        "image_size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "precision": precision or "float32",
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    with distribute.scope(strategy), _precision(precision):
        model = methods.create(
            method,
            (size, size, source.image_shape[2]),
            backbone,
            **methods.with_num_images(method, source.size, method_options or {}),
        )
        return train(
            model,
            source,
            out,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            settings=settings,
            test=test_source,
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
    batch_size,
    seed,
    settings,
    test=None,
    views=None,
    gradient_accumulation_steps=None,
    monitor=True,
    checkpoint_every=1,
    knn_every=1,
    verbose="auto",
):
    """Train a ready `model` in the run folder `out`: what `pretrain` and the recipes share.

    Args:
        model: an `SSLModel`, compiled or not (then with its default optimizer).
        source: `keras_ssl.data.Source` of training images.
        out: the run folder.
        epochs: passes over the images.
        batch_size: the global batch.
        seed: of order and views.
        settings: JSON-able dict that identifies the run.
        test: labelled `Source` for the kNN monitor, used where `source` has labels too; generative
            methods are judged by its images, and without it by training images.
        views: view pipeline in the place of the method's.
        gradient_accumulation_steps: see `pretrain`.
        monitor: see `pretrain`.
        checkpoint_every: see `pretrain`.
        knn_every: epochs between kNN figures.
        verbose: as in `keras.Model.fit`.

    Returns:
        A `Run`.
    """
    views = views or model.default_views(model.image_shape[:2])
    feed.check_batch_size(batch_size)
    feed.check_number(model, source)
    data_module.check_stream(source, views, batch_size, labels="label" in model.batch_keys)
    steps = source.size // batch_size
    if not model.compiled:
        accumulation = gradient_accumulation_steps or 1
        optimizer = model.default_optimizer(
            max(1, epochs * steps // accumulation), batch_size * accumulation
        )
        optimizer.gradient_accumulation_steps = gradient_accumulation_steps
        model.compile(optimizer)
    probe = watch.Probe(model, source, test, views, seed)
    watchers = watch.watchers(model, source, test, probe, monitor, knn_every)
    settings = {**settings, "images": _describe(source), "version": keras_ssl.__version__}
    folder = RunFolder(out, settings)
    try:
        done = folder.restore(model)
        if not folder.rows:
            folder.rows.append({"epoch": 0, **watch.measure(model, watchers)})
        watch.take_up(model, watchers, folder.rows)
        if done < epochs:
            model.fit(
                source,
                batch_size=batch_size,
                epochs=epochs,
                initial_epoch=done,
                views=views,
                seed=seed,
                verbose=verbose,
                callbacks=[
                    guard(folder),
                    *watchers,
                    TensorBoardScalars(folder.path / "tensorboard"),
                    Recorder(folder, checkpoint_every, epochs),
                ],
            )
        return _finish(model, folder, source, settings, watchers, probe)
    finally:
        folder.close()


def _finish(model, folder, source, settings, watchers, probe):
    """Write encoder and report, print the table."""
    encoder = export_encoder(model, folder.path / "encoder")
    export_encoder(model, folder.path / "encoder.keras", format="keras")
    verdict = next((w.verdict for w in watchers if isinstance(w, CollapseMonitor)), None)
    judged, described = probe.judged
    table = figures.table(model, folder.rows, judged, described)
    page = report.write_report(
        folder.path / "report.html",
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
    lines = dict(table)
    if verdict is not None:
        lines["collapse monitor"] = f"{verdict.status}: {verdict.message}"
    lines |= {"encoder": str(encoder), "report": str(page)}
    width = max(map(len, lines))
    print("\n" + "\n".join(f"{name:{width}}  {value}" for name, value in lines.items()))
    return Run(model, folder.path, encoder, page, folder.rows, verdict)


def _describe(source):
    """What tells a data set from another: its name, size and a digest of some of its images."""
    height, width = (min(32, side) for side in source.typical_size)
    images, _ = source.arrays((height, width), limit=64)
    return {
        "name": source.name,
        "size": source.size,
        "digest": zlib.crc32(np.ascontiguousarray(images)),
    }


@contextlib.contextmanager
def _precision(policy):
    before = keras.config.dtype_policy()
    if policy:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
