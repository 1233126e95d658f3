"""The same losses and weights on one device, on several, in several processes, and on JAX.

Every way runs in processes of its own (chained strategies disturb each other), all methods in each.
"""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from toys import images

JOB = pathlib.Path(__file__).with_name("job.py")


def start(way, devices, folder, out, **environment):
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    command = [
        sys.executable,
        str(JOB),
        way,
        str(devices),
        str(folder / "start.npz"),
        str(folder / out),
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-4000:]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    finish(start("tensorflow", 1, folder, "one.npz"))
    return folder


def compare(folder, out, replicas, tolerance, cases):
    expected, found = np.load(folder / "one.npz"), np.load(folder / out)
    for case in cases:
        assert found[f"{case}/replicas"] == replicas
        keys = [
            key
            for key in expected.files
            if key.startswith(case + "/") and not key.endswith("replicas")
        ]
        assert len(keys) > 5
        for key in keys:
            np.testing.assert_allclose(
                found[key], expected[key], atol=tolerance, rtol=tolerance, err_msg=key
            )
        first = np.load(folder / "start.npz")
        assert any(
            np.abs(first[key] - found[key]).max() > 1e-3
            for key in first.files
            if key.startswith(case + "/")
        )


@pytest.mark.parametrize("devices", [2, 4])
def test_replicas(one_device, devices):
    finish(start("tensorflow", devices, one_device, f"{devices}.npz"))
    compare(one_device, f"{devices}.npz", devices, 1e-5, ("simclr", "images", "teacher", "players"))


def test_two_worker_processes(one_device):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for i in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        processes.append(
            start("worker", 1, one_device, f"worker{i}.npz", TF_CONFIG=json.dumps(cluster))
        )
    for process in processes:
        finish(process)
    for i in range(2):
        compare(one_device, f"worker{i}.npz", 2, 1e-5, ("simclr", "images", "teacher"))


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the package jax is absent")
@pytest.mark.parametrize("devices", [1, 2])
def test_jax(one_device, devices):
    finish(start("jax", devices, one_device, f"jax{devices}.npz"))
    compare(one_device, f"jax{devices}.npz", devices, 1e-4, ("simclr", "images", "teacher"))
    if devices == 1:
        encoder = tf.saved_model.load(str(one_device / "jax1"))
        expected = np.load(one_device / "jax1.npz")["exported/features"]
        np.testing.assert_allclose(encoder.serve_uint8(images(4)), expected, atol=1e-5)
