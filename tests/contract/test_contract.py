"""What every method must do, the same checks for all; `test_processes.py` has the rest of them.

A method that cannot do one of them says so in its attribute `unsupported`: the name of the check
without `test_`, and the reason. One method alone: `pytest tests/contract -k MoCo`.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract import test_processes
from contract.cases import BATCH, CASES, SHAPE, batches, fresh, source
from toys import images

import keras_ssl
from keras_ssl import runs
from keras_ssl.methods import METHODS


def state(model):
    """Every variable that training may change, by path."""
    return {
        **{f"{i} {w.path}": np.array(w) for i, w in enumerate(model.weights)},
        **{f"{i} {v.path}": np.array(v) for i, v in enumerate(model.optimizer.variables)},
    }


def check_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_every_method_has_a_case():
    exported = {cls.__name__ for cls in METHODS.values()}
    assert exported == {name.split()[0] for name in CASES} and exported <= set(keras_ssl.__all__)
    for cls in METHODS.values():
        names = [*globals(), *vars(test_processes)]
        checks = {name.removeprefix("test_") for name in names if name.startswith("test_")}
        assert set(cls.unsupported) <= checks and all(cls.unsupported.values())


def test_learns_on_one_repeated_batch(method):
    """Putting the first weights back makes the loss worse, all other state staying as it is."""
    model = fresh(method)
    variables = list(model.players.values())[-1] if model.players else model.trainable_variables
    first = [np.array(v) for v in variables]
    dataset = batches(model)
    model.fit(dataset, epochs=20, verbose=0)
    trained = [np.array(v) for v in variables]
    batch = next(iter(dataset))
    values = []
    for weights in (trained, first):
        for variable, value in zip(variables, weights):
            variable.assign(value)
        values.append(float(model.compute_losses(batch, training=False)["loss"]))
    assert np.isfinite(values).all() and values[0] < values[1]


def test_every_trainable_variable_is_moved(method):
    model = fresh(method)
    before = [np.array(v) for v in model.trainable_variables]
    model.fit(batches(model, steps=3), epochs=2, verbose=0)
    still = [
        v.path for v, old in zip(model.trainable_variables, before) if (np.array(v) == old).all()
    ]
    assert not still


def test_no_retracing(method):
    model = fresh(method)
    traces, compute_losses = [], model.compute_losses

    def counting(*args, **kwargs):
        traces.append(1)
        return compute_losses(*args, **kwargs)

    model.compute_losses = counting
    model.fit(source(), batch_size=BATCH, epochs=2, verbose=0)
    first = len(traces)
    model.fit(source(seed=1), batch_size=BATCH, epochs=4, initial_epoch=2, verbose=0)
    assert first == len(traces) <= 4


def test_plain_images_and_default_optimizer(method):
    """Five lines of a user: no compile, no views; every named loss is logged and finite."""
    keras.utils.set_random_seed(1)
    model = CASES[method].make()
    history = model.fit(source(), batch_size=BATCH, epochs=2, verbose=0).history
    assert set(history) == set(model.loss_names)
    assert all(np.isfinite(values).all() for values in history.values())
    assert int(model.total_steps.numpy()) == 6 == int(model.step)


def test_teachers_are_not_trained(method):
    model = fresh(method)
    trained = {id(v) for v in model.trainable_variables}
    for layer in model._flatten_layers(include_self=False):
        if layer.name.startswith("teacher_"):
            assert not trained & {id(v) for v in layer.weights}
    model.build_optimizer()
    slots = {v.path.split("/")[-1] for v in model.optimizer.variables}
    assert not any("teacher" in slot for slot in slots)


def test_config_round_trip(method):
    model = fresh(method)
    again = type(model).from_config(json.loads(json.dumps(_serialized(model)))["config"])
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert _numbers(again) == _numbers(model)


def _serialized(model):
    return keras.saving.serialize_keras_object(model)


def _numbers(model):
    return {k: v for k, v in model.get_config().items() if isinstance(v, int | float | str | tuple)}


def test_save_load_and_go_on(method, tmp_path):
    model = fresh(method)
    dataset = batches(model, steps=3)
    model.fit(dataset, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_same_values(state(model), state(loaded))
    for m in (model, loaded):
        m.fit(dataset, epochs=2, initial_epoch=1, verbose=0)
    check_same_values(state(model), state(loaded))


def check_same_values(a, b):
    """As `check_same`; names of layers may differ by their numbers."""
    check_same(dict(enumerate(a.values())), dict(enumerate(b.values())))


class Interrupt(keras.callbacks.Callback):
    """Stops a run inside an epoch, as a kill would."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            raise KeyboardInterrupt


def test_kill_and_resume(method, tmp_path, monkeypatch):
    """Report and export, which come after training, are left out: others test them."""
    monkeypatch.setattr(runs, "_finish", lambda model, *_: model)
    arguments = {"epochs": 3, "batch_size": BATCH, "seed": 3, "settings": {}, "verbose": 0}

    def run(folder):
        keras.utils.set_random_seed(1)
        model = CASES[method].make()
        return runs.train(model, source(), folder, monitor=False, **arguments)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "TensorBoardScalars", lambda path: Interrupt(1))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    check_same_values(state(whole), state(resumed))
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "killed")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(method, policy):
    keras.config.set_dtype_policy(policy)
    model = fresh(method)
    dataset = batches(model)
    losses = model.compute_losses(next(iter(dataset)), training=True)
    kinds = {keras.backend.standardize_dtype(value.dtype) for value in losses.values()}
    assert kinds == {"float32"}
    history = model.fit(dataset, epochs=3, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(np.array(v, "float32")).all() for v in model.weights)
    features = model.encode(images(4))
    assert features.dtype == tf.float32 and features.shape[0] == 4


def test_uint8_and_float_images_agree(method):
    model, pixels = fresh(method), images(4)
    floats = pixels.astype("float32") / 255
    np.testing.assert_allclose(model.encode(pixels), model.encode(floats), atol=1e-6)
    for name in ("embed", "reconstruct"):
        if hasattr(model, name):
            hook = getattr(model, name)
            np.testing.assert_allclose(hook(pixels), hook(floats), atol=1e-5)


def test_wrong_batches_are_explained(method):
    model = fresh(method)
    wrong = tf.data.Dataset.from_tensors({"crops": images(8, dtype="float32")})
    with pytest.raises(ValueError, match=rf"{method.split()[0]} .*'crops'; missing: .*views"):
        model.fit(wrong, verbose=0)
    with pytest.raises(ValueError, match="at least 2"):
        model.fit(images(8), batch_size=1, verbose=0)
    with pytest.raises(ValueError, match="3 channels.*1"):
        model.fit(images(8, (*SHAPE[:2], 1)), verbose=0)
