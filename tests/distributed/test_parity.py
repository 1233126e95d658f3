"""The same losses and weights on one device, on several, in several processes, and on JAX.

Every way runs in processes of its own (chained strategies disturb each other), all methods in each.
"""

import importlib.util
import json
import socket

import numpy as np
import pytest
import tensorflow as tf
from processes import compare, finish, start
from toys import images

JOB = "distributed/job.py"
CASES = (
    "simclr",
    "images",
    "validated",
    "teacher",
    "memory",
    "clusters",
    "kmeans",
    "banks",
    "labels",
    "queues",
    "groups",
    "players",
    "clipnorm",
    "global_clipnorm",
    "scaled",
    "overflowing",
)


# What a process of its own may get wrong: shares of the images, memories, gathering, reduction.
OF_PROCESSES = ("images", "memory", "banks", "queues", "players", "global_clipnorm")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    finish(start(JOB, "tensorflow", 1, folder))
    return folder


def test_state_of_an_image_is_found_by_its_index(one_device):
    """After two shuffled epochs every row of the bank holds its own image's mean."""
    found = np.load(one_device / "tensorflow1.npz")
    pixels = images(48).astype("float32").mean((1, 2)) / 255
    banks = [found[k] for k in found.files if k.startswith("memory/") and found[k].shape == (48, 3)]
    np.testing.assert_allclose(banks[0], pixels, atol=1e-5)


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas(one_device, devices):
    finish(start(JOB, "tensorflow", devices, one_device))
    compare(one_device, f"tensorflow{devices}.npz", devices, 1e-5, CASES)


@pytest.mark.parametrize(
    "cases", [OF_PROCESSES, pytest.param(CASES, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_two_worker_processes(one_device, cases):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for i in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        environment = {"TF_CONFIG": json.dumps(cluster)}
        processes.append(start(JOB, "worker", 1, one_device, *cases, **environment))
    for process in processes:
        finish(process)
    for i in range(2):
        compare(one_device, f"worker{i}.npz", 2, 1e-5, cases)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the package jax is absent")
@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_jax(one_device, devices):
    finish(start(JOB, "jax", devices, one_device))
    compare(one_device, f"jax{devices}.npz", devices, 1e-4, CASES)
    if devices == 1:
        encoder = tf.saved_model.load(str(one_device / "jax1"))
        expected = np.load(one_device / "jax1.npz")["exported/features"]
        np.testing.assert_allclose(encoder.serve_uint8(images(4)), expected, atol=1e-5)
