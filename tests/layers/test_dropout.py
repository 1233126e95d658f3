import keras
import numpy as np
import pytest

from keras_ssl.layers import ema
from keras_ssl.layers.dropout import DropPath, KeyedDropout, dropout_noise, noise_of

X = np.ones((64, 5, 5, 8), "float32")
NOISE = np.random.default_rng(0).random(64).astype("float32")


def dropped(rate=0.5, salt=0, noise=NOISE, x=X):
    with dropout_noise(noise):
        return np.array(KeyedDropout(rate, salt)(x, training=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_of_values_is_zero_and_the_mean_stays(rate):
    y = dropped(rate)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(1 - rate)}
    error = 5 * np.sqrt(rate * (1 - rate) / y.size)
    assert (y == 0).mean() == pytest.approx(rate, abs=error)
    places = (y == 0).mean(0)  # none is favoured
    assert np.abs(places - rate).max() < 5 * np.sqrt(rate * (1 - rate) / len(y))


def test_masks_are_functions_of_the_image_s_number():
    """Whatever other images are in the batch: so replicas and batches make no difference."""
    y = dropped()
    np.testing.assert_array_equal(y[5:9], dropped(noise=NOISE[5:9], x=X[5:9]))
    assert (y[0] != y[1]).any()
    differing = (y != dropped(salt=1)).mean()
    assert differing == pytest.approx(0.5, abs=0.02)


def test_the_identity_elsewhere():
    layer = KeyedDropout(0.5)
    np.testing.assert_array_equal(layer(X, training=True), X)
    with dropout_noise(NOISE):
        np.testing.assert_array_equal(layer(X, training=False), X)
        np.testing.assert_array_equal(KeyedDropout(0.0)(X, training=True), X)
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\). Received: rate=1"):
        KeyedDropout(1)


def test_a_path_is_dropped_for_an_image_as_a_whole():
    noise = np.random.default_rng(1).random(4000).astype("float32")
    with dropout_noise(noise):
        y = np.array(DropPath(0.25, 3)(np.ones((4000, 5, 2), "float32"), training=True))
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert (y[:, 0, 0] == 0).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 4000))


def test_pixels_decide_the_number_of_an_image():
    pixels = np.random.default_rng(2).integers(0, 256, (2000, 32, 32, 3)).astype("uint8")
    noise = np.array(noise_of(pixels / np.float32(255)))
    assert noise.dtype == "float32" and noise.min() >= 0 and noise.max() < 1
    counts, _ = np.histogram(noise, 10, (0, 1))
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square of 9 degrees: one in a thousand
    np.testing.assert_array_equal(noise[7:9], noise_of(pixels[7:9] / np.float32(255)))
    other = pixels.copy()
    other[0, 0, 0, 0] ^= 1
    changed = np.array(noise_of(other)) != np.array(noise_of(pixels))
    assert changed[0] and not changed[1:].any()


def test_teachers_drop_no_path():
    inputs = keras.Input((3, 2))
    student = keras.Model(inputs, DropPath(0.5)(keras.layers.Dense(2)(inputs)))
    teacher = ema.make_teacher(student)
    x = np.ones((64, 3, 2), "float32")
    with dropout_noise(NOISE):
        assert (np.array(student(x, training=True)) == 0).any()
        np.testing.assert_array_equal(teacher(x, training=True), student(x, training=False))
