"""Fixtures of the contract: its cases, and what other processes find out about them."""

import concurrent.futures
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from contract.cases import CASES, batches, fresh
from processes import QUIET, finish, start
from toys import images

import keras_ssl

JOB = "distributed/job.py"


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if CASES[name].slow else ())
        for name in sorted(CASES)
    ]
)
def method(request):
    """Name of a method; the check is skipped where the method declares that it cannot pass."""
    check = request.function.__name__.removeprefix("test_")
    reason = getattr(keras_ssl, request.param.split()[0]).unsupported.get(check)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


TRAIN_ELSEWHERE = """
import json, sys, traceback
sys.modules["keras_ssl"] = None
import numpy as np, tensorflow as tf

def check(folder):
    kept = np.load(folder + ".npz")
    encoder = tf.saved_model.load(folder)
    np.testing.assert_allclose(encoder.serve_uint8(kept["images"]), kept["features"], atol=1e-5)
    x = tf.constant(kept["images"], "float32") / 255
    variables = encoder.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(encoder.train(x) ** 2)
    gradients = tape.gradient(loss, variables)
    if not variables or any(g is None for g in gradients):
        raise ValueError("nothing to train, or no gradient")
    for v, g in zip(variables, gradients):
        v.assign_sub(0.01 * g)
    if np.allclose(encoder.serve_uint8(kept["images"]), kept["features"], atol=1e-6):
        raise ValueError("training moved nothing")

found = {}
for folder in sys.argv[1:]:
    try:
        check(folder)
        found[folder] = "fine"
    except Exception:
        found[folder] = traceback.format_exc()
print(json.dumps(found))
"""


def selected(request):
    """Names of the methods whose tests run now."""
    found = [getattr(item, "callspec", None) for item in request.session.items]
    return sorted({spec.params["method"] for spec in found if spec and "method" in spec.params})


@pytest.fixture(scope="session")
def elsewhere(request, tmp_path_factory):
    """What a process without keras_ssl says of the encoders of the selected methods."""
    folder, names = tmp_path_factory.mktemp("encoders"), selected(request)
    for name in names:
        model, pixels = fresh(name), images(8)
        model.fit(batches(model), verbose=0)
        model.export_encoder(folder / name)
        np.savez(folder / f"{name}.npz", images=pixels, features=np.array(model.encode(pixels)))
    (folder / "train.py").write_text(TRAIN_ELSEWHERE)
    done = subprocess.run(
        [sys.executable, folder / "train.py", *(str(folder / name) for name in names)],
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {pathlib.Path(path).name: word for path, word in found.items()}


@pytest.fixture(scope="session")
def parity(request, tmp_path_factory):
    """Folder with losses and weights of the selected methods, and what is to come, by devices."""
    folder, names = tmp_path_factory.mktemp("parity"), selected(request)
    stop = threading.Event()

    def work(backend, before=None):
        if before:
            before.result()  # it writes the first weights
        finish(start(JOB, backend, "1,2", folder, *names), stop, 300 + 60 * len(names))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = {"tensorflow": pool.submit(work, "tensorflow")}
        if importlib.util.find_spec("jax"):
            jobs["jax"] = pool.submit(work, "jax", jobs["tensorflow"])
        yield folder, jobs
        stop.set()


@pytest.fixture(scope="session", autouse=True)
def early(request):
    """Other processes begin with the first test, those that need their results come last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # these tests may be another worker's
    if any("parity" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("parity")
