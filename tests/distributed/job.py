"""Trains a few methods for some steps under one way of distribution, one way a process.

    python job.py WAY DEVICES FOLDER [METHOD ...]

WAY is `tensorflow`, `worker` (of a cluster that TF_CONFIG describes) or `jax`; as many virtual CPUs
share the batch as DEVICES says, `1,2` being one after the other. `start.npz` in FOLDER holds first
weights, written where absent; losses and final weights go to a file like `tensorflow2.npz`. METHOD
names cases of the contract suite; without any, toys are trained.
"""

import contextlib
import json
import os
import pathlib
import sys

WAY, DEVICES = sys.argv[1], [int(n) for n in sys.argv[2].split(",")]
FOLDER, METHODS = pathlib.Path(sys.argv[3]), sys.argv[4:]
START = FOLDER / "start.npz"
os.environ["KERAS_BACKEND"] = "jax" if WAY == "jax" else "tensorflow"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={max(DEVICES)}"
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import tensorflow as tf  # noqa: E402

if WAY == "worker":
    WORKERS = tf.distribute.MultiWorkerMirroredStrategy()
elif WAY == "tensorflow":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * max(DEVICES)
    )

import keras  # noqa: E402
import numpy as np  # noqa: E402
from contract.cases import CASES, batches  # noqa: E402
from toys import Follower, Memory, TwoPlayers, images, ready_batches, tiny_backbone  # noqa: E402

import keras_ssl  # noqa: E402
from keras_ssl import distribute  # noqa: E402


def compiled(model, rate=0.1):
    model.compile(keras.optimizers.SGD(rate, momentum=0.9))
    return model


def toys():
    """Name, maker of the model, maker of the data and arguments of fit."""
    backbone, data = tiny_backbone, lambda model: ready_batches(48, 16)
    yield "simclr", lambda: compiled(keras_ssl.SimCLR(backbone())), data, {}
    yield (
        "images",
        lambda: keras_ssl.SimCLR(backbone()),
        lambda model: images(48),
        {"batch_size": 16, "epochs": 2},
    )
    yield "teacher", lambda: compiled(Follower(backbone())), data, {}
    yield (
        "memory",
        lambda: compiled(Memory(backbone())),
        lambda model: images(48),
        {"batch_size": 16, "epochs": 2},
    )
    yield (
        "queues",
        lambda: compiled(keras_ssl.SwAV(backbone(), num_prototypes=20, queue_size=32), 0.03),
        lambda model: images(48),
        {"batch_size": 16},
    )
    yield "players", lambda: compiled(TwoPlayers(backbone())), data, {}


def methods():
    """The same for methods of the contract suite: three steps."""
    for name in METHODS:
        case = CASES[name]
        yield (
            name,
            lambda case=case: compiled(case.make(), case.rate),
            lambda model: batches(model, steps=3),
            {},
        )


class Losses(keras.callbacks.Callback):
    """Running mean of the loss after every step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])


def distribution(devices):
    """What to make and train models in the scope of: one a process, they disturb others."""
    if WAY == "worker":
        return WORKERS
    if devices == 1:
        return None
    if WAY == "jax":
        return keras.distribution.DataParallel()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])


def train(devices, out):
    """Train every model on so many devices; losses and weights go to `out`."""
    start = dict(np.load(START)) if START.exists() else {}
    first, result = {}, {}
    parallel = distribution(devices)
    for name, make, data, arguments in methods() if METHODS else toys():
        keras.utils.set_random_seed(7)
        with parallel.scope() if parallel else contextlib.nullcontext():
            model = make()
            if start:
                model.set_weights([start[f"{name}/{i}"] for i in range(len(model.weights))])
            first |= {f"{name}/{i}": np.array(w) for i, w in enumerate(model.get_weights())}
            losses = Losses()
            model.fit(data(model), verbose=0, callbacks=[losses], **arguments)
            result[f"{name}/replicas"] = np.array(distribute.parallel_devices())
            if WAY == "tensorflow" and devices == 4 and name == "images":
                refuses_indivisible(model)
        if WAY == "jax" and devices == 1 and name == "simclr":
            model.export_encoder(out.with_suffix(""))
            result["exported/features"] = np.array(model.encode(images(4)))
        result[f"{name}/loss"] = np.array(losses.values)
        result |= {f"{name}/{i}": np.array(w) for i, w in enumerate(model.get_weights())}
    if WAY == "tensorflow" and devices == 2 and not METHODS:
        runs_the_main_job(parallel, out.with_suffix(".run"))
    if not START.exists():
        np.savez(START, **first)
    np.savez(out, **result)


def runs_the_main_job(strategy, out):
    arguments = {"backbone": "small_conv", "epochs": 1, "batch_size": 16, "strategy": strategy}
    run = keras_ssl.pretrain("simclr", images(48), out, verbose=0, **arguments)
    encoder = tf.saved_model.load(str(run.encoder))
    np.testing.assert_allclose(
        encoder.serve_uint8(images(4)), run.model.encode(images(4)), atol=1e-5
    )
    again = keras_ssl.pretrain("simclr", images(48), out, verbose=0, **arguments)
    for a, b in zip(run.model.get_weights(), again.model.get_weights()):
        np.testing.assert_array_equal(a, b)


def refuses_indivisible(model):
    try:
        model.fit(images(48), batch_size=10, verbose=0)
    except ValueError as error:
        if "multiple of the 4 replicas" in str(error) and "batch_size=10" in str(error):
            return
        raise
    raise SystemExit("a batch of 10 on 4 replicas was accepted")


if __name__ == "__main__":
    for number in DEVICES:
        task = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if WAY == "worker" else number
        train(number, FOLDER / f"{WAY}{task}.npz")
