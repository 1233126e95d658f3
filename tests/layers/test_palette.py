"""The palette: nearest colours, found by k-means, the same ones from the same images."""

import keras
import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.layers.palette import Palette

RNG = np.random.default_rng(0)


def palette(size=8, channels=3):
    layer = Palette(size, channels)
    layer.build()
    return layer


def source(images):
    return data.from_array(images)


def blobs(centres, n=40, spread=4):
    """Images whose pixels lie around `centres`, uint8."""
    which = RNG.integers(len(centres), size=(n, 6, 6))
    noise = RNG.integers(-spread, spread + 1, size=(n, 6, 6, centres.shape[1]))
    return np.clip(centres[which] + noise, 0, 255).astype("uint8"), which


def test_tokens_are_nearest_colours():
    layer, x = palette(), RNG.random((3, 4, 5, 3)).astype("float32")
    layer.colours.assign(RNG.random((8, 3)))
    distance = ((x[..., None, :] - np.array(layer.colours)) ** 2).sum(-1)
    np.testing.assert_array_equal(layer(x), distance.argmin(-1).reshape(3, 20))
    again = layer.images(layer(x), (4, 5, 3))
    np.testing.assert_array_equal(layer(again), layer(x))  # a colour of the palette stays itself


def test_fit_finds_clusters():
    centres = np.array([[20, 30, 200], [240, 240, 240], [10, 10, 10], [200, 40, 30]])
    images, which = blobs(centres)
    layer = palette(4)
    layer.fit(source(images), (6, 6))
    found = 255 * np.array(layer.colours)
    order = [np.abs(found - c).sum(1).argmin() for c in centres]
    np.testing.assert_allclose(found[order], centres, atol=1)
    tokens = np.array(layer(images / np.float32(255)))
    np.testing.assert_array_equal(np.array(order)[which.reshape(40, 36)], tokens)
    assert int(layer.fitted.numpy()) == 1


def test_fit_is_a_function_of_the_seed():
    images = RNG.integers(256, size=(20, 8, 8, 3), dtype=np.uint8)
    found = []
    for seed in (0, 0, 1):
        layer = palette()
        layer.fit(source(images), (8, 8), seed)
        found.append(np.array(layer.colours))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_few_colours_are_all_kept(channels):
    few = RNG.integers(256, size=(5, channels))
    images = few[RNG.integers(5, size=(10, 4, 4))].astype("uint8")
    layer = palette(8, channels)
    layer.fit(source(images), (4, 4))
    x = images / np.float32(255)
    np.testing.assert_allclose(layer.images(layer(x), (4, 4, channels)), x, atol=1e-6)


def test_half_precision_keeps_colours():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer, x = palette(), RNG.random((1, 2, 2, 3)).astype("float32")
    keras.config.set_dtype_policy("float32")
    other = palette()
    np.testing.assert_array_equal(layer(x), other(x))
    assert not layer.trainable_variables


def test_two_colours_at_least():
    with pytest.raises(ValueError, match="2 colours or more.*1"):
        Palette(1)
