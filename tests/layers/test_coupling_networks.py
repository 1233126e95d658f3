import numpy as np
import pytest

from keras_ssl.layers.coupling_networks import (
    dense_network,
    glow_network,
    hidden_layers,
    linear_network,
    residual_network,
)

MAKERS = {
    "dense": lambda: dense_network(12, 5, 2, 6),
    "glow": lambda: glow_network((4, 4, 2), 5, 6),
    "residual": lambda: residual_network((4, 4, 2), 5, 2, 6),
    "linear": lambda: linear_network((4, 4, 2), 6),
}


def inputs(network):
    shape = network.input_shape[1:]
    return np.random.default_rng(0).standard_normal((3, *shape)).astype("float32")


@pytest.mark.parametrize("name", MAKERS)
def test_zeros_at_first_of_the_right_shape(name):
    network = MAKERS[name]()
    y = np.array(network(inputs(network)))
    assert y.shape == (3, *network.input_shape[1:-1], 6) and not y.any()


@pytest.mark.parametrize("name", ["dense", "glow", "residual"])
def test_hidden_layers_share_weights_without_the_output(name):
    network = MAKERS[name]()
    hidden = hidden_layers(network)
    x = inputs(network)
    before = np.array(hidden(x))
    assert before.shape[-1] == 5 and before.min() == 0  # after ReLU
    assert len(hidden.weights) < len(network.weights)
    network.trainable_variables[0].assign_add(np.ones(network.trainable_variables[0].shape))
    assert np.abs(np.array(hidden(x)) - before).max() > 1e-3


def test_sizes():
    """Kernels of 8 blocks of the paper: 2 each, a way out of each, the first and the last."""
    network = residual_network((8, 8, 3), 4, 8, 6)
    kernels = [w for w in network.weights if len(w.shape) == 4]
    assert len(kernels) == 1 + 8 * 2 + 9 + 1
    with pytest.raises(ValueError, match="`depth` must be >= 1. Received: depth=0"):
        dense_network(4, 4, 0, 4)
    with pytest.raises(ValueError, match="`width` must be >= 1"):
        glow_network((4, 4, 2), 0, 4)
    with pytest.raises(ValueError, match="`blocks` must be >= 1"):
        residual_network((4, 4, 2), 4, 0, 4)
