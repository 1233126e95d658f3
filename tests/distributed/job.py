"""Trains a few methods for some steps under one way of distribution, one way a process.

    python job.py WAY DEVICES FOLDER [METHOD ...]

WAY is `tensorflow`, `worker` (of a cluster that TF_CONFIG describes) or `jax`; as many virtual CPUs
share the batch as DEVICES says, `1,2` being one after the other. `start.npz` in FOLDER holds first
weights, written where absent; losses and final weights go to a file like `tensorflow2.npz`. METHOD
names toys or cases of the contract suite; without any, all toys are trained.
"""

import contextlib
import json
import os
import pathlib
import pickle
import sys
import time

WAY, DEVICES = sys.argv[1], [int(n) for n in sys.argv[2].split(",")]
FOLDER, METHODS = pathlib.Path(sys.argv[3]), sys.argv[4:]
START = FOLDER / "start.npz"
os.environ["KERAS_BACKEND"] = "jax" if WAY == "jax" else "tensorflow"
# Three steps are compiled once a method: optimising them costs more than it saves.
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={max(DEVICES)} --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import tensorflow as tf  # noqa: E402

if WAY == "worker":
    WORKERS = tf.distribute.MultiWorkerMirroredStrategy()
elif WAY == "tensorflow":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * max(DEVICES)
    )
    # Toys run as users' models do; the many contract cases run without optimized graphs.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": bool(METHODS)})

import keras  # noqa: E402
import numpy as np  # noqa: E402
from contract.cases import CASES, READY, train  # noqa: E402
from contract.fitted import Losses  # noqa: E402
from toys import (  # noqa: E402
    Clusters,
    Follower,
    Memory,
    TwoPlayers,
    images,
    ready_batches,
    tiny_backbone,
)

import keras_ssl  # noqa: E402
from keras_ssl import distribute, evaluation  # noqa: E402


def compiled(model, rate=0.1):
    model.compile(keras.optimizers.SGD(rate, momentum=0.9))
    return model


def as_in_its_paper(model):
    """Compiled with LARS: Adam's step for a tiny gradient would be that of its rounding errors."""
    model.compile(model.paper_optimizer(6, 16))
    return model


def clipped(**limits):
    """A teacher with players, and an optimizer that clips; every limit cuts most of a gradient."""
    model = TwoPlayers(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, **limits))
    return model


def scaled():
    """Clipping of scaled gradients: the limit is for the true ones."""
    model = Follower(tiny_backbone())
    sgd = keras.optimizers.SGD(0.1, momentum=0.9, clipvalue=1e-3)
    model.compile(keras.optimizers.LossScaleOptimizer(sgd, initial_scale=2.0**10))
    return model


def overflowing():
    """The first steps overflow and must move nothing, though `clipvalue` would cut infinity off."""
    model = Follower(tiny_backbone())
    sgd = keras.optimizers.SGD(0.1, clipvalue=1.0)
    model.compile(keras.optimizers.LossScaleOptimizer(sgd, initial_scale=3e38))
    return model


def toys():
    """Name: maker of the model, data, arguments of fit."""
    backbone, ready = tiny_backbone, ready_batches(48, 16)
    plain, two_epochs = images(48), {"batch_size": 16, "epochs": 2}
    return {
        "simclr": (lambda: compiled(keras_ssl.SimCLR(backbone(), temperature=0.5)), ready, {}),
        "images": (
            lambda: as_in_its_paper(keras_ssl.SimCLR(backbone(), temperature=0.5)),
            plain,
            two_epochs,
        ),
        "validated": (
            lambda: compiled(keras_ssl.SimCLR(backbone(), temperature=0.5), 0.01),
            plain,
            {**two_epochs, "validation_data": images(24, seed=1)},
        ),
        "teacher": (lambda: compiled(Follower(backbone())), ready, {}),
        "memory": (lambda: compiled(Memory(backbone())), plain, two_epochs),
        "clusters": (lambda: compiled(Clusters(backbone(), 48), 0.03), plain, two_epochs),
        "kmeans": (
            lambda: compiled(keras_ssl.DeepCluster(backbone(), 48, 4)),
            plain,
            two_epochs,
        ),
        "banks": (
            lambda: compiled(keras_ssl.DeepClusterV2(backbone(), 48, num_heads=2), 0.003),
            plain,
            two_epochs,
        ),
        # Most replicas have no labelled image, and none has as many as another.
        "labels": (
            lambda: compiled(keras_ssl.Auxiliary(4, keras_ssl.RotNet(backbone())), 0.03),
            keras_ssl.data.from_array(plain, np.where(np.arange(48) % 7, -1, np.arange(48) % 4)),
            two_epochs,
        ),
        "queues": (
            lambda: compiled(
                keras_ssl.SwAV(backbone(), num_prototypes=20, queue_size=32, queue_start=0), 0.03
            ),
            plain,
            {"batch_size": 16},
        ),
        # 24 images make 3 groups, which 2 and 4 replicas cannot divide among them.
        "groups": (
            lambda: compiled(keras_ssl.MoCo(backbone(), queue_size=48), 0.03),
            plain,
            {"batch_size": 24},
        ),
        "players": (lambda: compiled(TwoPlayers(backbone())), ready, {}),
        "clipnorm": (lambda: clipped(clipnorm=0.01), ready, {}),
        "global_clipnorm": (lambda: clipped(global_clipnorm=0.01), ready, {}),
        "scaled": (scaled, ready, {}),
        "overflowing": (overflowing, ready, {}),
    }


def steps(name, losses):
    """A function that makes and trains the model called `name`, a toy or a contract case."""
    if name in CASES:
        case = CASES[name]
        return lambda: compiled(case.make(), case.rate), lambda m: train(m, 3, callbacks=[losses])
    make, data, arguments = toys()[name]
    return make, lambda m: m.fit(data, verbose=0, callbacks=[losses], **arguments)


def distribution(devices):
    """What to make and train models in the scope of: one a process, they disturb others."""
    if WAY == "worker":
        return WORKERS
    if devices == 1:
        return None
    if WAY == "jax":
        return keras.distribution.DataParallel()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])


def train_all(devices, out):
    """Train every model on so many devices; losses and weights go to `out`."""
    start = dict(np.load(START)) if START.exists() else {}
    if (FOLDER / "batches.pickle").exists():
        READY.update(pickle.loads((FOLDER / "batches.pickle").read_bytes()))
    first, result = {}, {}
    parallel = distribution(devices)
    for name in METHODS or toys():
        keras.utils.set_random_seed(7)
        losses, began = Losses(), time.process_time()
        make, fit = steps(name, losses)
        with parallel.scope() if parallel else contextlib.nullcontext():
            model = make()
            if start:
                model.set_weights([start[f"{name}/{i}"] for i in range(len(model.weights))])
            first |= {f"{name}/{i}": np.array(w) for i, w in enumerate(model.get_weights())}
            if name == "simclr":
                evaluation.extract(model.encode, images(4))  # compiled: values must not stay
            history = fit(model).history
            if name == "simclr":
                features = evaluation.extract(model.encode, images(4))
                np.testing.assert_allclose(features, model.encode(images(4)), atol=1e-5)
            result[f"{name}/replicas"] = np.array(distribute.parallel_devices())
            if WAY == "tensorflow" and devices == 4 and name == "images":
                refuses_indivisible(model)
        if WAY == "jax" and devices == 1 and name == "simclr":
            model.export_encoder(out.with_suffix(""))
            result["exported/features"] = np.array(model.encode(images(4)))
        result[f"{name}/cpu"] = np.array(time.process_time() - began)
        result[f"{name}/loss"] = np.array([*losses.values, *history.get("val_loss", [])])
        result |= {f"{name}/{i}": np.array(w) for i, w in enumerate(model.get_weights())}
    if WAY == "tensorflow" and devices == 2 and not METHODS:
        runs_the_main_job(parallel, out.with_suffix(".run"))
    if not START.exists():
        np.savez(START, **first)
    np.savez(out, **result)


def runs_the_main_job(strategy, out):
    arguments = {"backbone": "small_conv", "epochs": 1, "batch_size": 16, "strategy": strategy}
    arguments["precision"] = "float32"  # the encoder's, whatever the run's
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
        train_all(number, FOLDER / f"{WAY}{task}.npz")
