import math

import keras
import numpy as np
import pytest

from keras_ssl import evaluation
from keras_ssl.callbacks import LikelihoodMonitor

RNG = np.random.default_rng(0)
IMAGES = RNG.binomial(255, 0.8, (96, 4, 4, 1)).astype(np.uint8)
TRAIN, HELD_OUT = IMAGES[:64], IMAGES[64:]


class Histogram(keras.Model):
    """One categorical distribution of 256 grey values for all pixels; learns its logits."""

    def __init__(self):
        super().__init__()
        self.logits = self.add_weight(shape=(256,), initializer="zeros")

    def call(self, images):
        values = keras.ops.cast(images, "int32")
        return keras.ops.take(keras.ops.log_softmax(self.logits), values)

    def log_prob(self, images, seed=0):
        return keras.ops.sum(self(images), axis=(1, 2, 3))


def fit(model, callbacks, epochs=4, **kwargs):
    if not model.compiled:
        model.compile(keras.optimizers.Adam(0.1), lambda y, x: -keras.ops.mean(x))
    return model.fit(TRAIN, TRAIN, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs)


def test_it_is_the_code_length_under_the_current_weights(tmp_path):
    model, monitor = Histogram(), LikelihoodMonitor(HELD_OUT, batch_size=10)
    csv = keras.callbacks.CSVLogger(tmp_path / "m.csv")
    history = fit(model, [monitor, csv], epochs=20).history["bits_per_dim"]
    assert monitor.untrained == pytest.approx(8.0, rel=1e-6)  # a uniform guess
    now, _ = evaluation.bits_per_dim(model.log_prob, HELD_OUT, 10)
    assert history[-1] == monitor.history[-1]["bits_per_dim"] == now
    # Never below the entropy of a binomial distribution, here of standard deviation 6.4.
    assert math.log2(6.4 * math.sqrt(2 * math.pi * math.e)) - 0.2 < now < 7.5
    assert type(history[0]) is float
    assert "bits_per_dim" in (tmp_path / "m.csv").read_text().splitlines()[0]


def test_every_and_going_on():
    model, monitor = Histogram(), LikelihoodMonitor(HELD_OUT, every=3)
    fit(model, [monitor], epochs=6)
    assert [row["epoch"] for row in monitor.history] == [0, 3, 5]
    again = LikelihoodMonitor(HELD_OUT, every=10)
    fit(model, [again], epochs=8, initial_epoch=6)
    assert again.untrained is None
    assert [row["epoch"] for row in again.history] == [6, 7]


def test_training_does_not_feel_the_monitor():
    weights = []
    for callbacks in ([], [LikelihoodMonitor(HELD_OUT)]):
        keras.utils.set_random_seed(3)
        model = Histogram()
        fit(model, callbacks)
        weights.append(model.get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_a_model_that_is_not_finite_gives_nan():
    model = Histogram()
    model.logits.assign(model.logits * np.nan)
    assert np.isnan(LikelihoodMonitor(HELD_OUT).measure(model))


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`every` must be >= 1"):
        LikelihoodMonitor(HELD_OUT, every=0)
    with pytest.raises(ValueError, match="at least one image"):
        LikelihoodMonitor(HELD_OUT[:0])
