"""The main job: outputs, resuming after a kill, and inputs that cannot be used."""

import ast
import csv
import json
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from toys import images

import keras_ssl

SMALL = {"backbone": "small_conv", "batch_size": 16, "verbose": 0, "precision": "float32"}


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes of 24 noisy images each."""
    for i, image in enumerate(images(48, (16, 16, 3))):
        folder = tmp_path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_run_folder_is_complete(photos, tmp_path, capsys):
    run = keras_ssl.pretrain("simclr", photos, tmp_path / "run", epochs=2, **SMALL)
    names = {p.name for p in run.out.iterdir()} - {".lock"}
    assert names == {
        "config.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "encoder",
        "encoder.keras",
        "backbone.keras",
        "report.html",
    }
    rows = list(csv.DictReader((run.out / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in rows[1:])
    assert all(0 <= float(row["knn"]) <= 1 for row in rows)
    assert all(float(row["features_std"]) > 0 for row in rows)
    printed = capsys.readouterr().out
    for word in ("random encoder", "trained encoder", "collapse monitor", "report.html"):
        assert word in printed
    pixels = images(4, (16, 16, 3))
    loaded = tf.saved_model.load(str(run.encoder))
    np.testing.assert_allclose(loaded.serve_uint8(pixels), run.model.encode(pixels), atol=1e-5)
    plain = keras.models.load_model(run.out / "encoder.keras")
    np.testing.assert_allclose(
        plain(pixels / np.float32(255)), loaded.serve_uint8(pixels), atol=1e-5
    )
    events = list((run.out / "tensorboard").iterdir())
    scalars = [
        v.tag
        for f in events
        for e in tf.compat.v1.train.summary_iterator(str(f))
        for v in e.summary.value
    ]
    assert scalars.count("loss") == 2
    page = run.report.read_text()
    page = page.replace("http://www.w3.org/", "")  # names of formats, which nothing fetches
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_same_command_on_a_finished_run_changes_no_weights(photos, tmp_path):
    first = keras_ssl.pretrain("simclr", photos, tmp_path / "run", epochs=1, **SMALL)
    again = keras_ssl.pretrain("simclr", photos, tmp_path / "run", epochs=1, **SMALL)
    for a, b in zip(first.model.get_weights(), again.model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert first.metrics == again.metrics


def test_unlabelled_folder_has_no_knn_but_a_verdict(tmp_path):
    (tmp_path / "flat").mkdir()
    for i, image in enumerate(images(20, (16, 16, 3))):
        Image.fromarray(image).save(tmp_path / "flat" / f"{i}.png")
    run = keras_ssl.pretrain("simclr", tmp_path / "flat", tmp_path / "run", epochs=1, **SMALL)
    assert "knn" not in run.metrics[-1] and run.verdict.message


def test_accumulation_and_precision_reach_the_optimizer(photos, tmp_path):
    """And so does the choice of the paper's optimizer, which the record keeps."""
    run = keras_ssl.pretrain(
        "simclr",
        photos,
        tmp_path / "run",
        epochs=2,
        optimizer="paper",
        gradient_accumulation_steps=2,
        monitor=False,
        **SMALL | {"precision": "mixed_bfloat16"},
    )
    assert run.model.optimizer.gradient_accumulation_steps == 2
    assert isinstance(run.model.optimizer, keras_ssl.optimizers.LARS)
    record = json.loads((run.out / "config.json").read_text())
    assert record["optimizer"] == {
        "choice": "paper",
        "class": "LARS",
        "note": "SimCLR: LARS for a run of 2 steps, with the paper's settings.",
    }
    assert int(run.model.step) == 2 and run.verdict is None
    assert run.model.projector.layers[1].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def command(data, out):
    words = ["pretrain", f"--data={data}", f"--out={out}", "--backbone=small_conv", "--epochs=4"]
    return [
        sys.executable,
        "-m",
        "keras_ssl.cli",
        *words,
        "--batch_size=16",
        "--seed=3",
        "--precision=float32",
    ]


def state(out):
    with h5py.File(out / "checkpoints" / "epoch-00004" / "state.weights.h5") as file:
        found = {}
        file.visititems(
            lambda k, v: found.update({k: v[()]}) if isinstance(v, h5py.Dataset) else None
        )
    return found


def wait_for(path, pattern, process):
    while not list(path.glob(pattern)):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)


def test_killed_runs_end_with_the_same_weights_bit_for_bit(photos, tmp_path):
    """Killed inside an epoch, then while saving one; the third start runs to the end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(photos, whole), check=True, capture_output=True)
    for moment in ("epoch-00001", ".partial-3"):
        process = subprocess.Popen(
            command(photos, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(killed / "checkpoints", moment, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "encoder").exists()
    subprocess.run(command(photos, killed), check=True, capture_output=True)
    expected, found = state(whole), state(killed)
    assert expected.keys() == found.keys() and len(expected) > 20
    for key in expected:
        np.testing.assert_array_equal(expected[key], found[key], err_msg=key)
    assert (whole / "metrics.csv").read_text() == (killed / "metrics.csv").read_text()


def unusable(tmp_path, kind):
    folder = tmp_path / "bad"
    folder.mkdir()
    if kind == "one image":
        Image.fromarray(images(1)[0]).save(folder / "a.png")
    if kind == "corrupt":
        for i in range(5):
            (folder / f"{i}.jpg").write_bytes(b"not an image")
    return folder


@pytest.mark.parametrize(
    "kind, message", [("empty", "at least 2"), ("one image", "at least 2"), ("corrupt", "0.jpg")]
)
def test_unusable_folders(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        keras_ssl.pretrain("simclr", unusable(tmp_path, kind), tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_unusable_settings(photos, tmp_path):
    def fails(message, **changes):
        arguments = {
            "method": "simclr",
            "data": photos,
            "out": tmp_path / "run",
            **SMALL,
            **changes,
        }
        with pytest.raises(ValueError, match=message):
            keras_ssl.pretrain(**arguments)
        assert not (tmp_path / "run" / "checkpoints").exists()

    fails("Did you mean 'simclr'", method="simcrl")
    fails("Did you mean 'resnet18'", backbone="resnet81")
    fails("temperature", method_options={"temprature": 0.1})
    fails("epochs", epochs=0)
    fails("positive", method_options={"temperature": -1.0})
    fails("smaller than the views", image_size=32)
    fails("neither a folder", data="cifra10")
    fails("number of images", batch_size=4096)
    fails("at least 2", batch_size=1)
    fails("`optimizer` must be one of", optimizer="lars")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    fails("holds other files", out=tmp_path / "taken")
    assert (tmp_path / "taken" / "notes.txt").read_text() == "mine"


class Poison(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is NaN at one step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step):
        return keras.ops.where(keras.ops.equal(step, self.step), float("nan"), 1e-3)


@pytest.mark.parametrize(
    "step, message", [(2, "at step 2 of epoch 2"), (3, "last step of epoch 2")], ids=["loss", "end"]
)
def test_divergence_keeps_the_last_good_checkpoint(photos, tmp_path, step, message):
    source, test = keras_ssl.data.splits(photos)
    assert source.size // 16 == 2
    model = keras_ssl.create("simclr", (16, 16, 3), "small_conv")
    model.compile(keras.optimizers.SGD(Poison(step)))
    with pytest.raises(keras_ssl.callbacks.TrainingDiverged, match=message + ".*last good"):
        keras_ssl.runs.train(
            model,
            source,
            tmp_path / "run",
            epochs=4,
            batch_size=16,
            seed=0,
            settings={},
            test=test,
            verbose=0,
        )
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-00001"]


def test_create_takes_names_in_any_spelling():
    for name in ("SimCLR", "sim-clr", "SIM_CLR"):
        assert isinstance(keras_ssl.create(name, (32, 32, 3), "small_conv"), keras_ssl.SimCLR)


def test_public_names():
    """Derived from the imports of `methods/__init__.py`, where every class of `methods/` is."""
    folder = pathlib.Path(keras_ssl.methods.__file__).parent
    defined = {
        node.name
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name[0] != "_"
    }
    exported = {method.__name__ for method in keras_ssl.methods.METHODS}
    assert defined == exported and len(exported) == len(keras_ssl.methods.METHODS) >= 19
    parts = "backbones callbacks data distribute evaluation layers losses ops optimizers views"
    others = {*parts.split(), "SSLModel", "create", "export_encoder", "load_encoder", "pretrain"}
    assert set(keras_ssl.__all__) == exported | others
    assert all(hasattr(keras_ssl, name) for name in keras_ssl.__all__)


def test_methods_with_a_bank_are_told_the_number_of_images(tmp_path):
    options = {"epochs": 1, "batch_size": 16, "backbone": "small_conv", "verbose": 0}
    run = keras_ssl.pretrain("instdisc", images(32), tmp_path / "run", monitor=False, **options)
    assert run.model.num_images == 32
    options["method_options"] = {"num_images": 30}
    with pytest.raises(ValueError, match="num_images=30 and 32 images"):
        keras_ssl.pretrain("instdisc", images(32), tmp_path / "other", **options)
    with pytest.raises(ValueError, match="trains with labels"):
        del options["method_options"]
        keras_ssl.pretrain("supcon", images(32), tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()
