import math

import keras
import numpy as np
import pytest

from keras_ssl.optimizers import HoldExponential, WarmupCosine, cosine_momentum


def test_the_closed_form_at_the_corners():
    schedule = WarmupCosine(peak=2.0, total_steps=110, warmup_steps=10, floor=0.4)
    expected = {0: 0.0, 5: 1.0, 10: 2.0, 35: 0.4 + 1.6 * (1 + math.cos(math.pi / 4)) / 2}
    expected |= {60: 1.2, 110: 0.4, 500: 0.4}
    for step, value in expected.items():
        np.testing.assert_allclose(schedule(step), value, rtol=1e-6, atol=1e-7)


def test_it_rises_then_falls_and_takes_a_vector_of_steps():
    values = np.asarray(WarmupCosine(1.0, 100, 20)(np.arange(101)))
    assert (np.diff(values[:21]) > 0).all() and (np.diff(values[20:]) < 0).all()


def test_no_warm_up_starts_at_the_peak():
    np.testing.assert_allclose(WarmupCosine(0.7, 10)(0), 0.7, rtol=1e-6)


def test_an_optimizer_follows_it_and_carries_it_through_its_config():
    optimizer = keras.optimizers.SGD(WarmupCosine(1.0, 10, 2, 0.1))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    variable = keras.Variable([0.0])
    rates, before = [], 0.0
    for _ in range(10):
        again.apply([np.ones(1, "float32")], [variable])
        now = float(variable[0])
        rates.append(before - now)
        before = now
    np.testing.assert_allclose(rates, WarmupCosine(1.0, 10, 2, 0.1)(np.arange(10)), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"peak": 0.0, "total_steps": 5}, "peak"),
        ({"peak": 1.0, "total_steps": 5, "warmup_steps": 5}, "warmup_steps"),
        ({"peak": 1.0, "total_steps": 5, "floor": 2.0}, "floor"),
    ],
)
def test_arguments_are_checked(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        WarmupCosine(**arguments)


def test_held_then_falling_exponentially():
    values = np.asarray(HoldExponential(2.0, 300, 100, 0.01)(np.array([0, 99, 100, 200, 300, 999])))
    np.testing.assert_allclose(values, [2.0, 2.0, 2.0, 0.2, 0.02, 0.02], rtol=1e-5)
    schedule = HoldExponential(2.0, 300, 100)
    again = HoldExponential.from_config(schedule.get_config())
    np.testing.assert_allclose(again(250), schedule(250))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10, 5), "`peak` must be > 0"),
        ((1.0, 10, 5, 2.0), "factor=2.0"),
        (
            (1.0, 10, 10),
            "`hold_steps` must be >= 0 and below `total_steps`. Received: hold_steps=10",
        ),
    ],
)
def test_arguments_of_the_held_rate_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        HoldExponential(*arguments)


def test_teacher_momentum_goes_from_base_to_one():
    values = np.asarray(cosine_momentum(np.array([0, 25, 50, 100, 120]), 100, base=0.9))
    quarter = 1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2
    np.testing.assert_allclose(values, [0.9, quarter, 0.95, 1.0, 1.0], rtol=1e-6)


def test_teacher_momentum_checks_its_arguments():
    with pytest.raises(ValueError, match="`base`"):
        cosine_momentum(0, 10, base=1.5)
    with pytest.raises(ValueError, match="`total_steps`"):
        cosine_momentum(0, 0)
