"""Run folders: lost, damaged, repeated, extended; and what they are compared by."""

import contextlib
import errno
import io
import json
import os
import pathlib
import sys
from unittest import mock

import keras
import numpy as np
import PIL.Image
import pytest
import toys
from table import Row

import keras_ssl
from keras_ssl import distribute, optimizers
from keras_ssl.runs import folder as run_folder

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(32) % 2


def train(folder, epochs=1, data=IMAGES, model=None, **options):
    """A run of a toy method in `folder/run`."""
    model = model or follower()
    source = keras_ssl.data.load(data)
    out = options.pop("out", folder / "run")
    settings = {"method": "toy", "data": source.name, **options.pop("settings", {})}
    options = {"batch_size": 16, "verbose": 0, "monitor": False, **options}
    with without_results(options.pop("page", None)):
        return keras_ssl.runs.train(model, source, out, epochs=epochs, settings=settings, **options)


@contextlib.contextmanager
def without_results(page=None):
    """Encoder and report are not written, which takes most of the time of a tiny run."""
    module = sys.modules["keras_ssl.runs.pretrain"]  # the package's attribute is the function
    with (
        mock.patch.object(module, "export_encoder"),
        mock.patch.object(module.report, "write_report", page or mock.Mock()),
    ):
        yield


def follower(width=8):
    keras.utils.set_random_seed(0)
    model = toys.Follower(toys.tiny_backbone(width=width))
    model.compile(keras.optimizers.SGD(0.01))
    return model


def pretrain(folder, **options):
    options = {"method": "simclr", "data": IMAGES, "epochs": 1, "verbose": 0, **options}
    options.setdefault("backbone", keras_ssl.backbones.small_conv((8, 8, 3), (4,)))
    return keras_ssl.pretrain(out=options.pop("out", folder / "run"), **options)


def with_layer(make):
    """A run with a backbone of which `make` gives a layer; nothing may be written."""

    def do(folder):
        inputs = keras.Input((8, 8, 3))
        x = make()(keras.layers.Conv2D(4, 3)(inputs))
        network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
        model = keras_ssl.SimCLR(keras_ssl.backbones.adopt(network))  # needs no copy itself
        try:
            train(folder, model=model)
        finally:
            assert not (folder / "run").exists()

    return do


def unregistered():
    class Doubled(keras.layers.Layer):
        def call(self, images):
            return images * 2.0

    return Doubled()


def newest_is_lost(spoil):
    """The newest of two checkpoints is spoilt: it is named, and the one before is loaded."""

    def do(folder):
        model = follower()
        model.build_optimizer()
        saved = run_folder.RunFolder(folder, {"version": "1"})
        kept = model.get_weights()
        for epoch in (1, 2):
            saved.rows.append({"epoch": epoch})
            saved.save(model, epoch)
            model.set_weights([w + 1 for w in model.get_weights()])
        saved.close()
        newest = folder / "checkpoints" / "epoch-00002"
        spoil(newest)
        again = run_folder.RunFolder(folder, {"version": "1"})
        with mock.patch.object(run_folder.warnings, "warn") as warned:
            assert again.restore(model) == 1
        assert str(newest) in warned.call_args.args[0]
        for a, b in zip(kept, model.get_weights()):
            np.testing.assert_array_equal(a, b)
        assert again.rows == [{"epoch": 1}]
        again.save(model, 2)  # in the place of what is spoilt
        assert again.epochs_done() == 2
        again.close()

    return do


def cut(checkpoint):
    state = checkpoint / "state.weights.h5"
    state.write_bytes(state.read_bytes()[:2000])


def emptied(checkpoint):
    (checkpoint / "state.weights.h5").write_bytes(b"")


def flipped(checkpoint):
    state = checkpoint / "state.weights.h5"
    content = bytearray(state.read_bytes())
    content[-100] ^= 1
    state.write_bytes(bytes(content))


def without_rows(checkpoint):
    (checkpoint / "metrics.json").unlink()


def without_weights(checkpoint):
    (checkpoint / "state.weights.h5").unlink()


def a_file(checkpoint):
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()
    checkpoint.write_text("")


def stray_checkpoint(folder):
    run_folder.RunFolder(folder, {"version": "1"}).close()
    (folder / "checkpoints" / "epoch-99999").mkdir(parents=True)
    (folder / "checkpoints" / "epoch-old").mkdir()
    opened = run_folder.RunFolder(folder, {"version": "1"})
    with pytest.warns(UserWarning, match="epoch-99999 is damaged, or no checkpoint"):
        assert opened.epochs_done() == 0
    opened.close()


def started_on_a_full_disk(folder):
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(pathlib.Path, "write_text", side_effect=full):
        with pytest.raises(ValueError, match="No space left.*Free some space"):
            run_folder.RunFolder(folder / "run", {"version": "1"})
    (folder / "run" / ".config.json.partial").write_text("{")  # of a start that was killed
    run_folder.RunFolder(folder / "run", {"version": "1"}).close()


def no_room_for_a_checkpoint(folder):
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(run_folder, "_check_space", side_effect=full):
        train(folder)


def record_of(text):
    def do(folder):
        (folder / "run").mkdir()
        (folder / "run" / "config.json").write_text(text)
        train(folder)

    return do


def another_network(folder):
    train(folder)
    train(folder, model=follower(12))


def another_test(folder):
    labelled = keras_ssl.data.from_array(IMAGES, LABELS)
    train(folder, data=labelled, test=labelled.subset(np.arange(10)))
    train(folder, data=labelled, test=labelled.subset(np.arange(10, 20)))


def half_of_the_data_replaced(folder):
    train(folder)
    train(folder, 2, data=np.concatenate([IMAGES[:16], 255 - IMAGES[16:]]))


def files(folder, broken=0):
    """A folder of small PNG files, the last of them broken."""
    photos = folder / "photos"
    photos.mkdir()
    for i, image in enumerate(IMAGES):
        PIL.Image.fromarray(image).save(photos / f"{i:02}.png")
    for i in range(broken):
        (photos / f"x{i}.png").write_bytes(b"no image")
    return photos


def relative_path(folder):
    photos = files(folder)
    first = train(folder, data=str(photos))
    with contextlib.chdir(folder):
        again = train(folder, data="photos")
    assert again.metrics == first.metrics


def files_copied_anew(folder):
    photos = files(folder)
    first = train(folder, data=str(photos))
    for file in photos.iterdir():
        os.utime(file, (1e9, 1e9))
    with mock.patch.object(run_folder.warnings, "warn") as warned:
        again = train(folder, data=str(photos))
    assert "written anew" in warned.call_args.args[0] and again.metrics == first.metrics


def skipped_files(folder):
    page = mock.Mock()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train(folder, data=str(files(folder, broken=2)), page=page)
    assert "unreadable files, skipped  2: x0.png, x1.png" in printed.getvalue()
    assert page.call_args.kwargs["extra"]["unreadable files, skipped"] == "2: x0.png, x1.png"


def extended(folder):
    first = train(folder, 2, model=with_default_optimizer(), verbose=2)
    record = json.loads((first.out / "config.json").read_text())
    assert record["epochs"] == 2 and record["optimizer"]["class"] == "Adam"
    with mock.patch("builtins.print") as said:
        run = train(folder, 5, model=with_default_optimizer(), verbose=2)
    assert any("2 epochs goes on to 5: from epoch 2 on" in str(call) for call in said.mock_calls)
    assert [row["epoch"] for row in run.metrics] == [0, 1, 2, 3, 4, 5]
    assert json.loads((run.out / "config.json").read_text())["epochs"] == 5
    assert int(run.model.step) == 10
    # Killed and resumed, it ends as it would have.
    copied = train(folder, 2, model=with_default_optimizer(), out=folder / "copy")
    with mock.patch.object(run_folder.Recorder, "on_epoch_begin", killed_in_epoch_4, create=True):
        with pytest.raises(KeyboardInterrupt):
            train(folder, 5, model=with_default_optimizer(), out=copied.out)
    again = train(folder, 5, model=with_default_optimizer(), out=copied.out)
    for a, b in zip(run.model.get_weights(), again.model.get_weights()):
        np.testing.assert_array_equal(a, b)


def killed_in_epoch_4(recorder, epoch, logs=None):
    if epoch == 3:
        raise KeyboardInterrupt


def with_default_optimizer():
    keras.utils.set_random_seed(0)
    return keras_ssl.create("simclr", (8, 8, 3), keras_ssl.backbones.small_conv((8, 8, 3), (4, 8)))


def extended_in_its_own_batches(folder):
    def model():
        made = with_default_optimizer()
        made.short_run = optimizers.ShortRun(
            below=9, learning_rate=1e-3, weight_decay=(0.04, 0.4), batch_size=8
        )
        made.paper_optimizer = lambda steps, size: optimizers.AdamW(
            optimizers.WarmupCosine(1e-3, steps), 0.05
        )
        return made

    train(folder, 2, model=model(), batch_size=None)
    run = train(folder, 3, model=model(), batch_size=None)  # 12 steps are no short run
    record = json.loads((run.out / "config.json").read_text())
    assert record["batch_size"] == 8 and int(run.model.step) == 12


def extended_into_another_optimizer(folder):
    train(folder, model=with_default_optimizer())
    train(folder, 6000, model=with_default_optimizer())


def first_epoch_diverges(folder):
    model = follower()
    model.backbone.set_weights([w * np.nan for w in model.backbone.get_weights()])
    train(folder, model=model)


def auto(*, processes=0, before=None, **options):
    """A run that may not look for a batch: what is wrong is told before."""

    def do(folder):
        (before or (lambda folder: None))(folder)
        module = sys.modules["keras_ssl.runs.batches"]
        with (
            mock.patch.object(module, "find", side_effect=AssertionError("batches were tried")),
            mock.patch.object(distribute, "processes", return_value=processes),
        ):
            pretrain(folder, **{"batch_size": "auto", **options})

    return do


def other_files(folder):
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").write_text("")


ROWS = [
    Row(
        "a batch size in words",
        auto(batch_size="large"),
        ("`batch_size` must be a positive integer or 'auto'", "batch_size='large'"),
    ),
    Row(
        "batch_size='auto' for several processes",
        auto(processes=2),
        ("must be a number", "several processes", "batch_size='auto'", "without TF_CONFIG"),
    ),
    Row(
        "batch_size='auto' and a folder with other files",
        auto(before=other_files),
        ("new or empty folder", "holds other files"),
    ),
    Row(
        "batch_size='auto' and options that are not JSON",
        auto(method_options={"temperature": np.float32(0.1)}),
        ("which JSON can hold", "temperature"),
    ),
    Row(
        "batch_size='auto' for a comparison",
        lambda folder: keras_ssl.compare("simclr", IMAGES, folder / "all", batch_size="auto"),
        ("of a comparison must be a number", "batch_size='auto'", "`pretrain` finds"),
    ),
    Row(
        "a backbone with a layer that is not registered",
        with_layer(unregistered),
        ("backbone must be one that Keras can copy", "Doubled", "register_keras_serializable"),
    ),
    Row(
        "a backbone with a Lambda layer",
        with_layer(lambda: keras.layers.Lambda(lambda images: images * 2.0)),
        ("backbone must be one that Keras can copy", "Lambda", "register_keras_serializable"),
    ),
    *(
        Row(f"newest checkpoint {spoil.__name__.replace('_', ' ')}", newest_is_lost(spoil))
        for spoil in (cut, emptied, flipped, without_rows, without_weights, a_file)
    ),
    Row("a stray folder among the checkpoints", stray_checkpoint),
    Row("a start on a full disk, and another", started_on_a_full_disk),
    Row(
        "no room for a checkpoint",
        no_room_for_a_checkpoint,
        ("Could not save epoch 1", "No space left", "Free some space", "begins anew"),
        RuntimeError,
    ),
    Row("a record that is a list", record_of("[1]"), ("not a run's record", "a list")),
    Row("a record cut off", record_of('{"epochs": '), ("not a run's record", "another `out`")),
    Row(
        "a finished run with another network",
        another_network,
        ("holds another run", "network", "there", "asked for"),
    ),
    Row("a finished run with another test", another_test, ("holds another run", "test: ")),
    Row(
        "half of the data replaced between kill and resume",
        half_of_the_data_replaced,
        ("holds another run", "images: digest"),
    ),
    Row("the same data by a relative path", relative_path),
    Row("the same files, copied anew", files_copied_anew),
    Row("unreadable files stand in the table", skipped_files),
    Row("a run extended", extended),
    Row("a run extended in its own batches", extended_in_its_own_batches),
    Row(
        "a run extended beyond its optimizer",
        extended_into_another_optimizer,
        ("holds another run", "epochs", "'Adam' there, 'LARS' asked for"),
    ),
    Row(
        "a run cut short",
        lambda folder: (train(folder, 2), train(folder, 1)),
        ("holds another run", "epochs: 2 there, 1 asked for"),
    ),
    Row(
        "divergence in epoch 1",
        first_epoch_diverges,
        ("step 1 of epoch 1", "There is no checkpoint yet"),
        keras_ssl.callbacks.TrainingDiverged,
    ),
    Row("out=None", lambda folder: pretrain(folder, out=None), ("`out`", "None", "runs/1")),
    Row(
        "out under a file",
        lambda folder: ((folder / "f").write_text(""), pretrain(folder, out=folder / "f" / "run")),
        ("`out` must be a folder that can be written", "choose another"),
    ),
    Row(
        "out with too long a name",
        lambda folder: pretrain(folder, out=folder / ("x" * 300)),
        ("`out` must be a folder that can be written", "choose another"),
    ),
    Row(
        "options that are not JSON",
        lambda folder: pretrain(folder, method_options={"temperature": np.float32(0.1)}),
        ("which JSON can hold", "method_options", "temperature"),
    ),
    *(
        Row(
            f"{name}={value!r}",
            lambda folder, name=name, value=value: pretrain(folder, **{name: value}),
            (f"`{name}` must be a positive integer", f"{name}={value!r}"),
        )
        for name, value in (
            ("batch_size", 0),
            ("image_size", 0),
            ("checkpoint_every", 0),
            ("epochs", 1.5),
            ("gradient_accumulation_steps", 0),
        )
    ),
]
