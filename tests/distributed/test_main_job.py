"""The main job in several processes: one writes, all resume, whoever was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from processes import QUIET, h5_arrays
from toys import images


def cluster(workers=2):
    """TF_CONFIG of each of so many workers on this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    described = {"cluster": {"worker": addresses}}
    return [
        json.dumps({**described, "task": {"type": "worker", "index": i}}) for i in range(workers)
    ]


def launch(data, out, config, epochs=4):
    """The command as on each machine, its output in a file."""
    words = ["pretrain", "--method=moco", f"--data={data}", f"--out={out}", "--set=queue_size=64"]
    words += ["--backbone=small_conv", f"--epochs={epochs}", "--batch_size=16", "--seed=3"]
    environment = {**os.environ, **QUIET, "TF_CONFIG": config}
    index = json.loads(config)["task"]["index"]
    with open(f"{out}.{index}.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "keras_ssl.cli", *words],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(processes, out):
    for i, process in enumerate(processes):
        try:
            process.wait(300)
        finally:
            process.kill()
        with open(f"{out}.{i}.log") as log:
            assert process.returncode == 0, log.read()[-5000:]


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes of 24 noisy images each."""
    for i, image in enumerate(images(48, (16, 16, 3))):
        folder = tmp_path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_a_killed_worker_changes_nothing(photos, tmp_path):
    """Two processes; one is killed inside an epoch, all are started again with one command."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish([launch(photos, whole, config) for config in cluster()], whole)
    processes = [launch(photos, killed, config) for config in cluster()]
    while not list((killed / "checkpoints").glob("epoch-00002")):
        assert processes[0].poll() is None, (tmp_path / "killed.0.log").read_text()[-5000:]
        time.sleep(0.002)
    processes[1].send_signal(signal.SIGKILL)
    processes[1].wait()
    processes[0].kill()  # it waits for the other; a scheduler stops it, too
    processes[0].wait()
    assert not (killed / "encoder").exists()
    finish([launch(photos, killed, config) for config in cluster()], killed)
    last = "checkpoints/epoch-00004/state.weights.h5"
    expected, found = h5_arrays(whole / last), h5_arrays(killed / last)
    assert expected.keys() == found.keys() and len(expected) > 20
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    for out in (whole, killed):
        names = {p.name for p in out.iterdir()}
        assert {"encoder", "encoder.keras", "report.html", "metrics.csv"} <= names
        assert keras.models.load_model(out / "encoder.keras").input_shape == (None, 16, 16, 3)
        assert "verdict" not in (tmp_path / f"{out.name}.1.log").read_text()


@pytest.mark.slow
def test_processes_with_folders_of_their_own_are_told(photos, tmp_path):
    """The second worker does not see the checkpoint of the first: an error, not a hang."""
    configs = cluster()
    first, second = tmp_path / "first", tmp_path / "second"
    finish([launch(photos, first, config, epochs=1) for config in configs], first)
    configs = cluster()
    processes = [launch(photos, out, c, 1) for out, c in zip((first, second), configs)]
    processes[1].wait(120)
    processes[0].kill()  # it may have been waiting for the other already
    processes[0].wait()
    log = (tmp_path / "second.1.log").read_text()
    assert processes[1].returncode == 1 and "All processes must see the same epochs done" in log
