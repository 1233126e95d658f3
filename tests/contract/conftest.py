"""Fixtures of the contract: its cases, and what other processes find out about them."""

import concurrent.futures
import importlib.util
import json
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from contract.cases import CASES, READY, batches, fresh, train
from contract.fitted import Fitted
from graphs import forget_graphs
from processes import QUIET, finish, start
from toys import images

JOB = "distributed/job.py"
CPU = {}  # seconds by case and process: what the contract costs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Adds the CPU time of this process to the case that the check belongs to."""
    before = time.process_time()
    result = yield
    params = getattr(getattr(item, "callspec", None), "params", {})
    if "fitted" in params:
        own = CPU.setdefault(params["fitted"], {})
        own["here"] = own.get("here", 0.0) + time.process_time() - before
    return result


def pytest_terminal_summary(terminalreporter):
    """The cost of each case; without workers only, which have clocks of their own."""
    columns = sorted({column for own in CPU.values() for column in own})
    if not columns or "PYTEST_XDIST_WORKER" in os.environ:
        return
    terminalreporter.section("seconds of CPU a case")
    terminalreporter.write_line(f"{'':24}" + "".join(f"{c:>14}" for c in [*columns, "all"]))
    for name, own in sorted(CPU.items()):
        numbers = [own.get(column, 0.0) for column in columns]
        cells = "".join(f"{number:14.1f}" for number in [*numbers, sum(numbers)])
        terminalreporter.write_line(f"{name:24}{cells}")
    totals = [sum(own.values()) for own in CPU.values()]
    terminalreporter.write_line(f"mean {np.mean(totals):.1f}, largest {max(totals):.1f}")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if CASES[name].slow else ())
        for name in sorted(CASES)
    ],
)
def fitted(request, tmp_path_factory):
    """The trained models of one case after the other; pytest runs a case's checks together."""
    yield Fitted(request.param, tmp_path_factory.mktemp("case"))
    forget_graphs()


@pytest.fixture
def case(fitted, request):
    """A case; the check is skipped where the method declares that it cannot pass."""
    check = request.function.__name__.removeprefix("test_")
    reason = fitted.cls.unsupported.get(check)
    if reason:
        pytest.skip(f"{fitted.name}: {reason}")
    return fitted


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
    """Names of the cases whose tests run now."""
    found = [getattr(item, "callspec", None) for item in request.session.items]
    return sorted({spec.params["fitted"] for spec in found if spec and "fitted" in spec.params})


@pytest.fixture(scope="session")
def elsewhere(request, tmp_path_factory):
    """What a process without keras_ssl says of the encoders of the selected cases."""
    folder, names = tmp_path_factory.mktemp("encoders"), selected(request)
    for name in names:
        model, pixels = fresh(name), images(8)
        train(model, 1)
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
    """Folder with losses and weights of the selected cases, and what is to come, by devices."""
    folder, names = tmp_path_factory.mktemp("parity"), selected(request)
    weights = {name: fresh(name).get_weights() for name in names}
    first = {f"{name}/{i}": w for name in names for i, w in enumerate(weights[name])}
    np.savez(folder / "start.npz", **first)
    for name in names:
        batches(fresh(name))
    (folder / "batches.pickle").write_bytes(pickle.dumps(READY))
    stop = threading.Event()
    asked = {item.function.__name__ for item in request.session.items if hasattr(item, "function")}

    def work(backend, devices):
        finish(start(JOB, backend, devices, folder, *names), stop, 300 + 60 * len(names))
        with np.load(folder / f"{backend}{devices}.npz") as found:
            for name in names:
                CPU.setdefault(name, {})[f"{backend} {devices}"] = float(found[f"{name}/cpu"])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = {("tensorflow", 2): pool.submit(work, "tensorflow", 2)}
        if importlib.util.find_spec("jax"):
            jobs["jax", 1] = pool.submit(work, "jax", 1)
            if "test_jax_on_two_devices" in asked:
                jobs["jax", 2] = pool.submit(work, "jax", 2)
        yield folder, jobs
        stop.set()


@pytest.fixture(scope="session", autouse=True)
def early(request):
    """Other processes begin with the first test, those that need their results come last."""
    if any("parity" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("parity")
