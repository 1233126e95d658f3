"""AdamW with a factor of the rate for each variable."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.optimizers import AdamW, WarmupCosine

rng = np.random.default_rng(0)
STARTS = [rng.normal(size=s).astype("float32") for s in ((4, 3), (3,), (5, 3))]
GRADS = [[rng.normal(size=s.shape).astype("float32") for s in STARTS] for _ in range(4)]


def run(optimizer):
    """The weights after four steps."""
    variables = [keras.Variable(start) for start in STARTS]
    for grads in GRADS:
        optimizer.apply([ops.convert_to_tensor(g) for g in grads], variables)
    return [ops.convert_to_numpy(v.value) for v in variables]


def test_without_factors_it_is_keras():
    ours = run(AdamW(WarmupCosine(0.1, 8, 2), weight_decay=0.1, exclude_1d=False))
    theirs = run(keras.optimizers.AdamW(WarmupCosine(0.1, 8, 2), weight_decay=0.1))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_factor_is_a_rate_of_its_own_for_step_and_decay():
    factors = [0.25, 1.0, 0.0]
    found = run(AdamW(0.1, weight_decay=0.2, factors=factors))
    for i, factor in enumerate(factors):
        decay = 0.2 if STARTS[i].ndim > 1 else 0.0  # vectors have none
        alone = run(AdamW(0.1 * factor, weight_decay=decay, exclude_1d=False))[i]
        np.testing.assert_allclose(found[i], alone, rtol=1e-6)
    np.testing.assert_array_equal(found[2], STARTS[2])


def test_it_comes_back_from_its_config():
    optimizer = AdamW(0.1, weight_decay=0.2, factors=[0.25, 1.0, 0.0])
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    for a, b in zip(run(optimizer), run(copy), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_factors_are_refused():
    with pytest.raises(ValueError, match=r"`factors` must be >= 0. Received: factors=\[-1\]"):
        AdamW(factors=[-1])
    with pytest.raises(ValueError, match="one number for each trainable variable. Received: 2 for"):
        run(AdamW(factors=[1.0, 1.0]))


def test_a_weight_decay_may_follow_a_schedule():
    """Where gradients are zero, weights shrink by the rate times the decay of each step."""
    schedule = keras.optimizers.schedules.CosineDecay(0.04, 4, alpha=10.0)
    optimizer = AdamW(0.5, schedule)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    for each in (optimizer, copy):
        variable, expected = keras.Variable(STARTS[0]), STARTS[0]
        for step in range(4):
            each.apply([ops.zeros_like(variable)], [variable])
            expected = expected * (1 - 0.5 * float(schedule(step)))
            np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    assert float(schedule(0)) == pytest.approx(0.04)
    assert float(schedule(4)) == pytest.approx(0.4)
