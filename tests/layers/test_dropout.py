import numpy as np
import pytest

from keras_ssl.layers.dropout import KeyedDropout, dropout_noise

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
