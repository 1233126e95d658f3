"""What every method must do, the same checks for all.

A method that cannot do one of them says so in its attribute `unsupported`: the name of the check
without `test_`, and the reason. One method alone: `pytest tests/contract -k MoCo`. What the checks
cost stands at the end, in seconds of CPU a case.
"""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import BATCH, CASES, SHAPE, batches, fresh, source, train
from contract.fitted import EPOCHS, check_same, state
from processes import compare_arrays, h5_arrays
from toys import images

import keras_ssl
from keras_ssl.methods import METHODS
from keras_ssl.methods.listing import JAX_CHECK

HOOKS = (
    "begin_epoch",
    "embed",
    "assign",
    "reconstruct",
    "mask",
    "sample",
    "log_prob",
    "interpolate",
)


def test_every_method_has_a_case():
    exported = {cls.__name__ for cls in METHODS}
    cases = {name.split()[0] for name in CASES if not name.startswith("Toy")}
    assert exported == cases and exported <= set(keras_ssl.__all__)
    for cls in METHODS:
        checks = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
        assert set(cls.unsupported) <= checks and all(cls.unsupported.values())
        assert JAX_CHECK in checks  # which lists of methods read


def test_learns_on_one_repeated_batch(case):
    """Putting the first weights back makes the loss worse, all other state staying as it is."""
    model = case.model
    variables = list(model.players.values())[-1] if model.players else model.trainable_variables
    places = {id(v): i for i, v in enumerate(model.weights)}
    first = [case.start[places[id(v)]] for v in variables]
    trained = [np.array(v) for v in variables]
    values = []
    for weights in (first, trained):
        for variable, value in zip(variables, weights):
            variable.assign(value)
        values.append(losses_of(model)["loss"])
    assert np.isfinite(values).all() and values[1] < values[0]


def losses_of(model):
    """Losses of a batch in inference mode; evaluation is traced once a case."""
    if model.can("begin_epoch"):
        return model.evaluate(source(), batch_size=BATCH, steps=1, verbose=0, return_dict=True)
    return model.evaluate(batches(model), verbose=0, return_dict=True)


def test_every_trainable_variable_is_moved(case):
    trained = {id(v) for v in case.model.trainable_variables}
    still = [
        v.path
        for v, old in zip(case.model.weights, case.start)
        if id(v) in trained and (np.array(v) == old).all()
    ]
    assert not still


def test_teachers_are_not_trained(case):
    model = case.model
    trained = {id(v) for v in model.trainable_variables}
    for layer in model._flatten_layers(include_self=False):
        if layer.name.startswith("teacher_"):
            assert not trained & {id(v) for v in layer.weights}
    slots = {v.path.split("/")[-1] for v in model.optimizer.variables}
    assert not any("teacher" in slot for slot in slots)


def test_config_round_trip(case):
    config = keras.saving.serialize_keras_object(case.model)
    again = type(case.model).from_config(json.loads(json.dumps(config))["config"])
    assert [w.shape for w in again.weights] == [w.shape for w in case.model.weights]
    assert _numbers(again) == _numbers(case.model)


def _numbers(model):
    return {k: v for k, v in model.get_config().items() if isinstance(v, int | float | str | tuple)}


def test_uint8_and_float_images_agree(case):
    model, pixels = case.model, images(4)
    floats = pixels.astype("float32") / 255
    np.testing.assert_allclose(model.encode(pixels), model.encode(floats), atol=1e-6)
    for name in ("embed", "assign", "reconstruct", "mask", "log_prob"):
        if model.can(name):
            hook = getattr(model, name)
            np.testing.assert_allclose(hook(pixels), hook(floats), atol=1e-5, rtol=1e-4)


def test_clusters_are_numbers_of_images(case):
    if not case.model.can("assign"):
        return
    found = np.array(case.model.assign(images(4)))
    assert found.shape == (4,) and np.issubdtype(found.dtype, np.integer) and found.min() >= 0


def test_missing_hooks_are_named(case):
    model = case.model
    arguments = {"sample": (2,), "interpolate": (images(2), images(2), 3)}
    for hook in HOOKS[1:]:
        if not model.can(hook):
            with pytest.raises((NotImplementedError, ValueError), match=f"{hook}"):
                getattr(model, hook)(*arguments.get(hook, (images(2),)))
    with pytest.raises(ValueError, match="`hook` must be one of"):
        model.can("fly")


def test_wrong_batches_are_explained(case):
    wrong = tf.data.Dataset.from_tensors({"crops": images(8, dtype="float32")})
    with pytest.raises(ValueError, match=rf"{case.cls.__name__} .*'crops'; missing: .*views"):
        case.model.fit(wrong, verbose=0)
    with pytest.raises(ValueError, match="at least 2"):
        case.model.fit(images(8), batch_size=1, verbose=0)
    with pytest.raises(ValueError, match="3 channels.*1"):
        case.model.fit(images(8, (*SHAPE[:2], 1)), np.arange(8), verbose=0)


def test_the_encoder_is_a_model_of_kerass_own_layers(case):
    """What `export_encoder(format="keras")` writes."""
    pixels = images(4, dtype="float32")
    copy = case.model.backbone.to_functional()
    np.testing.assert_allclose(copy(pixels), case.model.backbone(pixels), atol=1e-4, rtol=1e-4)


def test_evaluation_changes_no_state(case):
    """Losses, twice the same, in inference mode; queues, banks, statistics, counters stay."""
    before = state(case.model)
    found = [losses_of(case.model) for _ in range(2)]
    assert found[0] == found[1] and set(found[0]) == set(case.model.loss_names)
    assert all(np.isfinite(value) for value in found[0].values())
    check_same(before, state(case.model))


def test_save_load_and_go_on(case, tmp_path):
    model = case.model
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_same(state(model), state(loaded))
    for m in (model, loaded):
        train(m, 3)
    check_same(state(model), state(loaded))


def test_plain_images_and_default_optimizer(case):
    """Five lines of a user: no compile, no views; every named loss is logged and finite."""
    model, history = case.whole
    assert set(history) == set(model.loss_names) and case.dtypes == {"float32"}
    assert all(len(values) == EPOCHS for values in history.values())
    assert all(np.isfinite(values).all() for values in history.values())
    assert int(model.total_steps.numpy()) == 3 * EPOCHS == int(model.step)
    assert int(model.steps_per_epoch.numpy()) == 3 and float(model.epoch) == EPOCHS


def test_no_retracing(case):
    """One trace, whatever epochs and images follow."""
    model, _ = case.whole
    assert case.traces == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule has ended
        train(model, 3)
    assert case.traces == 1


def test_kill_and_resume(case):
    """A run that was killed inside its second epoch ends with the same state, bit for bit."""
    assert case.whole and len(list((case.folder / "killed" / "checkpoints").iterdir())) == 1
    case.run(case.folder / "killed")
    whole, killed = (case.folder / name for name in ("whole", "killed"))
    last = f"checkpoints/epoch-{EPOCHS:05d}/state.weights.h5"
    expected, found = h5_arrays(whole / last), h5_arrays(killed / last)
    assert expected.keys() == found.keys() and len(expected) > 5
    check_same(expected, found)
    assert (whole / "metrics.csv").read_text() == (killed / "metrics.csv").read_text()


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision(case, policy):
    keras.config.set_dtype_policy(policy)
    model = fresh(case.name)
    history = train(model, 1, epochs=3).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(np.array(v, "float32")).all() for v in model.weights)
    features = model.encode(images(4))
    assert features.dtype == tf.float32 and features.shape[0] == 4


def check_parity(parity, case, backend, devices, tolerance):
    """Losses and weights of three steps against those of one TensorFlow device."""
    folder, jobs = parity
    if (backend, devices) not in jobs:
        pytest.skip(f"the package {backend} is absent")
    jobs[backend, devices].result()
    _, expected = case.three_steps
    compare_arrays(folder / f"{backend}{devices}.npz", case.name, expected, devices, tolerance)


def test_two_replicas(parity, case):
    check_parity(parity, case, "tensorflow", 2, 1e-5)


def test_jax(parity, case):
    check_parity(parity, case, "jax", 1, 1e-4)


@pytest.mark.slow
def test_jax_on_two_devices(parity, case):
    check_parity(parity, case, "jax", 2, 1e-4)


@pytest.mark.slow
def test_encoder_is_trained_elsewhere(elsewhere, case):
    assert elsewhere[case.name] == "fine", elsewhere[case.name]
