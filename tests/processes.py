"""Runs `tests/distributed/job.py` in processes of its own and compares what they leave."""

import os
import pathlib
import subprocess
import sys
import time

import h5py
import numpy as np

TESTS = pathlib.Path(__file__).parent
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def start(script, *arguments, **environment):
    """A running Python process of `script`, a path below tests/."""
    return subprocess.Popen(
        [sys.executable, str(TESTS / script), *map(str, arguments)],
        env={**os.environ, **QUIET, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, stop=None, timeout=1800):
    """Wait for a process; its output is the message if it failed. `stop`, an event, ends it."""
    began = time.monotonic()
    while True:
        try:
            output, _ = process.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            if (stop and stop.is_set()) or time.monotonic() - began > timeout:
                process.kill()
    assert process.returncode == 0, output[-6000:]


def compare_arrays(path, case, expected, replicas, tolerance):
    """What a job left of a case in `path` against `expected`: its losses, and weights by place."""
    found = _arrays(path)
    assert found[f"{case}/replicas"] == replicas and len(expected) > 5
    for key, value in expected.items():
        np.testing.assert_allclose(
            found[f"{case}/{key}"], value, atol=tolerance, rtol=tolerance, err_msg=key
        )


def h5_arrays(path):
    """All arrays of an HDF5 file by name."""
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def compare(folder, out, replicas, tolerance, cases):
    """Losses and weights in `out` against those of one TensorFlow device, and that they moved."""
    names = ("tensorflow1.npz", out, "start.npz")
    expected, found, first = (_arrays(folder / name) for name in names)
    for case in cases:
        assert found[f"{case}/replicas"] == replicas
        keys = [
            k
            for k in expected
            if k.startswith(case + "/") and k.split("/")[1] not in ("replicas", "cpu")
        ]
        assert len(keys) > 5
        for key in keys:
            np.testing.assert_allclose(
                found[key], expected[key], atol=tolerance, rtol=tolerance, err_msg=key
            )
        moved = [np.abs(first[k] - found[k]).max() for k in first if k.startswith(case + "/")]
        assert max(moved) > 1e-3


def _arrays(path):
    with np.load(path) as file:
        return dict(file)
