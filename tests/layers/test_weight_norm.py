import keras
import numpy as np
import pytest

from keras_ssl.layers.masked_conv import ShiftedConv2D, ShiftedConv2DTranspose
from keras_ssl.layers.starting import starting
from keras_ssl.layers.weight_norm import WeightNormDense

LAYERS = {
    "dense": lambda **own: WeightNormDense(5, **own),
    "conv": lambda **own: ShiftedConv2D(5, (2, 3), "down", weight_norm=True, **own),
    "halving": lambda **own: ShiftedConv2D(5, (2, 2), strides=2, weight_norm=True, **own),
    "doubling": lambda **own: ShiftedConv2DTranspose(5, (2, 3), "down", **own),
}


def maps(seed=0):
    x = np.random.default_rng(seed).standard_normal((16, 6, 6, 3))
    return (3 * x + 2).astype("float32")


@pytest.mark.parametrize("name", LAYERS)
def test_the_start_gives_outputs_their_moments(name):
    layer, x = LAYERS[name](initial_scale=0.3), maps()
    before = np.array(layer(x))
    with starting():
        started = np.array(layer(x))
    np.testing.assert_allclose(started.mean((0, 1, 2)), np.zeros(5), atol=1e-4)
    np.testing.assert_allclose(started.std((0, 1, 2)), np.full(5, 0.3), rtol=1e-3)
    np.testing.assert_array_equal(started, layer(x))  # and stays
    layer(10 * x)
    np.testing.assert_array_equal(started, layer(x))
    assert np.abs(before - started).max() > 0.1


@pytest.mark.parametrize("name", LAYERS)
def test_the_length_of_the_kernel_does_not_matter(name):
    layer, x = LAYERS[name](), maps()
    before = np.array(layer(x))
    layer.kernel.assign(7.0 * layer.kernel)
    np.testing.assert_allclose(layer(x), before, atol=1e-4)
    layer.gain.assign(2.0 * layer.gain)
    np.testing.assert_allclose(layer(x), 2.0 * before, atol=1e-4)


def test_a_network_starts_layer_by_layer():
    """Each layer sees what the layers below give after their own start."""
    inputs = keras.Input((6, 6, 3))
    x = ShiftedConv2D(8, (2, 3), "down", weight_norm=True)(inputs)
    x = WeightNormDense(4, name="last")(keras.layers.ReLU()(x))
    model = keras.Model(inputs, x)
    with starting():
        model(maps())
    out = np.array(model(maps()))
    np.testing.assert_allclose(out.mean((0, 1, 2)), np.zeros(4), atol=1e-4)
    np.testing.assert_allclose(out.std((0, 1, 2)), np.ones(4), rtol=1e-3)
