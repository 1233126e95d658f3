"""Settings by the length of a run: Adam in short runs, values by the number of epochs."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import optimizers


def test_adam_rises_over_a_twentieth_of_the_run_and_falls_to_zero():
    adam = optimizers.ShortRun(below=1000, learning_rate=0.01).optimizer(200)
    assert type(adam) is keras.optimizers.Adam
    rates = [float(adam._learning_rate(step)) for step in (0, 5, 10, 105, 200)]
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, 0.005, 0], atol=1e-8)
    assert np.isfinite(float(optimizers.ShortRun(10, 0.01).optimizer(1)._learning_rate(0)))


def test_a_constant_rate_rises_as_the_others_and_stays():
    adam = optimizers.ShortRun(below=1000, learning_rate=0.01, constant=True).optimizer(200)
    rates = [float(adam._learning_rate(step)) for step in (0, 5, 10, 105, 200)]
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, 0.01, 0.01], atol=1e-8)
    changed = optimizers.adjusted(adam, learning_rate=0.002)
    assert float(changed._learning_rate(200)) == pytest.approx(0.002)
    assert np.isfinite(float(optimizers.ShortRun(10, 0.01, True).optimizer(1)._learning_rate(0)))


def test_weight_decay_goes_from_the_first_value_to_the_last():
    short = optimizers.ShortRun(below=1000, learning_rate=0.01, weight_decay=(0.04, 0.4))
    adam = short.optimizer(200)
    assert type(adam) is optimizers.AdamW and adam.exclude_1d
    assert float(adam._learning_rate(10)) == pytest.approx(0.01)
    decays = [float(adam.weight_decay(step)) for step in (0, 100, 200)]
    np.testing.assert_allclose(decays, [0.04, 0.22, 0.4], rtol=1e-5)
    assert optimizers.adjusted(adam, weight_decay=0.1).weight_decay == 0.1
    assert np.isfinite(float(short.optimizer(1).weight_decay(0)))


@pytest.mark.parametrize(
    "epochs, expected", [(0, 0.996), (1, 0.97), (99, 0.97), (100, 0.99), (999, 0.99), (1000, 0.996)]
)
def test_values_by_epochs(epochs, expected):
    found = optimizers.by_epochs(epochs, {0: 0.97, 100: 0.99, 1000: 0.996})
    assert float(found) == pytest.approx(expected)


def test_the_length_of_the_run_decides_and_a_line_says_so(capsys):
    model = keras_ssl.SimCLR(tiny_backbone())
    below = model.short_run.below
    assert type(model.default_optimizer(below - 1, 256)) is keras.optimizers.Adam
    assert type(model.default_optimizer(below, 256)) is optimizers.LARS
    assert type(model.paper_optimizer(10, 256)) is optimizers.LARS
    model.fit(images(32), batch_size=16, epochs=2)
    assert type(model.optimizer) is keras.optimizers.Adam
    line = capsys.readouterr().out.splitlines()[0]
    assert "SimCLR: Adam for a run of 4 steps" in line and f"from {below} steps on" in line
    silent = keras_ssl.SimCLR(tiny_backbone())
    silent.fit(images(32), batch_size=16, epochs=2, verbose=0)
    assert capsys.readouterr().out == ""


def test_warm_ups_are_counted_in_epochs_and_capped():
    model = keras_ssl.SimCLR(tiny_backbone())
    assert model.warmup_steps(1000) == 100  # length of an epoch unknown
    model.steps_per_epoch.assign(5)
    assert model.warmup_steps(1000) == 50 and model.warmup_steps(100) == 10
    assert model.warmup_steps(1500, epochs=40, most=0.15) == 200
    assert model.epochs_of(100) == 20


def test_queues_are_no_larger_than_the_data(capsys):
    model = keras_ssl.MoCo(tiny_backbone(), queue_size=1000)
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(images(32), batch_size=16, epochs=1, verbose=1)
    assert "queue of 32 in the place of 1000" in capsys.readouterr().out
    assert model.queue_size == model.queue.size == 32 and bool(model.queue.full)
    config = keras.saving.serialize_keras_object(model)
    keras.saving.deserialize_keras_object(config).set_weights(model.get_weights())
    model.fit(images(16), batch_size=16, epochs=1, verbose=0)  # it has keys: it stays as it is
    assert model.queue.size == 32
