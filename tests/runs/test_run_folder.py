"""Run folders: written whole or not at all, and never another run's."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from toys import ready_batches, tiny_backbone

import keras_ssl
from keras_ssl.runs.folder import Recorder, RunFolder

HERE = pathlib.Path(__file__).parent
CONFIG = {"method": "simclr", "epochs": 3}


def trained(folder, epochs, start=0):
    keras.utils.set_random_seed(0)
    model = keras_ssl.SimCLR(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    done = folder.restore(model)
    assert done == start
    model.fit(
        ready_batches(16, 16),
        epochs=epochs,
        initial_epoch=done,
        verbose=0,
        callbacks=[Recorder(folder, 1, epochs)],
    )
    return model


def test_continues_with_the_same_weights_and_rows(tmp_path):
    whole, parts = RunFolder(tmp_path / "a", CONFIG), RunFolder(tmp_path / "b", CONFIG)
    model = trained(whole, 3)
    trained(parts, 1)
    parts.close()
    again = RunFolder(tmp_path / "b", CONFIG)
    resumed = trained(again, 3, start=1)
    whole.close()
    again.close()
    for a, b in zip(model.get_weights(), resumed.get_weights()):
        np.testing.assert_array_equal(a, b)
    tables = [
        list(csv.DictReader((tmp_path / name / "metrics.csv").read_text().splitlines()))
        for name in "ab"
    ]
    assert tables[0] == tables[1] and [row["epoch"] for row in tables[0]] == ["1", "2", "3"]
    assert sorted(p.name for p in again.checkpoints.iterdir()) == ["epoch-00002", "epoch-00003"]


def test_another_run_is_not_touched(tmp_path):
    RunFolder(tmp_path, CONFIG).close()
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match="epochs: 3 there, 2 asked for"):
        RunFolder(tmp_path, {**CONFIG, "epochs": 2})
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files"):
        RunFolder(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="must be a folder"):
        RunFolder(tmp_path / "thesis.txt", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = RunFolder(tmp_path, CONFIG)
    code = f"from keras_ssl.runs.folder import RunFolder; RunFolder({str(tmp_path)!r}, {CONFIG!r})"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Another process is at work" in second.stderr
    first.close()
    RunFolder(tmp_path, CONFIG).close()


def test_half_written_checkpoints_are_ignored(tmp_path):
    folder = RunFolder(tmp_path, CONFIG)
    trained(folder, 1)
    folder.close()
    (tmp_path / "checkpoints" / ".partial-2").mkdir()
    (tmp_path / "checkpoints" / ".partial-2" / "state.weights.h5").write_bytes(b"half")
    again = RunFolder(tmp_path, CONFIG)
    again.close()
    assert again.epochs_done() == 1
    assert [p.name for p in again.checkpoints.iterdir()] == ["epoch-00001"]


FULL = """
import os, resource, signal, sys, keras
sys.path[:0] = sys.argv[2].split(os.pathsep)
import test_run_folder as t
from keras_ssl.runs.folder import RunFolder
folder = RunFolder(sys.argv[1], t.CONFIG)
model = t.trained(folder, 1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # writes beyond fail, as on a full disk
try:
    folder.save(model, 2)
except RuntimeError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    code = [sys.executable, "-c", FULL, str(tmp_path), paths]
    result = subprocess.run(code, capture_output=True, text=True)
    assert "Could not save epoch 2" in result.stdout and "of epoch 1 in" in result.stdout, (
        result.stderr[-2000:]
    )
    folder = RunFolder(tmp_path, CONFIG)
    assert [p.name for p in folder.checkpoints.iterdir()] == ["epoch-00001"]
    trained(folder, 2, start=1)
    folder.close()
    rows = json.loads((folder.checkpoints / "epoch-00002" / "metrics.json").read_text())
    assert rows[-1]["epoch"] == 2
