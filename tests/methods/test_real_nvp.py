import math

import keras
import numpy as np
import pytest
from toys import images

from keras_ssl.layers.flows import Logit, Permutation, Squeeze
from keras_ssl.methods.real_nvp import RealNVP, _diagonals

SHAPE = (4, 4, 2)


def couplings(model):
    """(split, flip) of the couplings of each level."""
    return [
        [(step.split, step.flip) for step in level.steps if hasattr(step, "network")]
        for level in model.flow.levels
    ]


def test_masks_of_the_paper():
    """Three checkerboards, three of channels; the last scale has four checkerboards."""
    model = RealNVP(SHAPE, num_scales=2, width=2)
    turns = [False, True, False, True]
    first = [("checkerboard", f) for f in turns[:3]] + [("halves", f) for f in turns[:3]]
    assert couplings(model) == [first, [("checkerboard", f) for f in turns]]
    assert isinstance(model.flow.levels[0].steps[0], Logit)


def test_first_likelihood_is_logit_normal():
    """Before its start the flow is the logit alone."""
    model, x = RealNVP(SHAPE, width=2, alpha=0.1), images(5, SHAPE)
    u = np.array(keras.random.uniform((5, *SHAPE), seed=0), "float64")
    p = 0.1 + 0.8 * (x + u) / 256
    logit = np.log(p / (1 - p))
    density = -(logit**2) / 2 - math.log(2 * math.pi) / 2 + np.log(0.8 / (p * (1 - p)))
    nats = density.sum((1, 2, 3)) - 32 * math.log(256)
    np.testing.assert_allclose(model.log_prob(x), nats, rtol=1e-5)


def test_diagonals_leave_in_turn():
    """What stays after a squeeze is one colour of the checkerboard of places before it."""
    x = np.indices((4, 4)).sum(0)[None, ..., None] % 2 + np.array([0, 10])  # colour of the place
    y, _ = Permutation(_diagonals(2))(Squeeze()(x.astype("float32"))[0])
    stays, leaves = np.split(np.array(y) % 10, 2, axis=-1)
    assert not stays.any() and leaves.all()


def test_widths_double_where_sides_halve():
    model = RealNVP((8, 8, 1), num_scales=3, width=2)
    widths = [
        [step.network.get_layer("hidden").output.shape[-1] for step in level.steps
         if hasattr(step, "network")] for level in model.flow.levels
    ]  # fmt: skip
    assert widths == [[2] * 3 + [4] * 3, [4] * 3 + [8] * 3, [8] * 4]
    assert model.flow._shapes == [(4, 4, 2), (2, 2, 4), (2, 2, 4)]


def test_scales_are_bounded():
    """However large the network's output, a log-scale is at most the bound of its channel."""
    model = RealNVP(SHAPE, num_scales=1, width=2)
    x = np.random.default_rng(0).random((2, *SHAPE)).astype("float32")
    coupling = next(step for step in model.flow.levels[0].steps if hasattr(step, "network"))
    coupling.bound.assign([0.5, 2.0])
    last = coupling.network.layers[-1]
    last.bias.assign([0, 0, 1e6, 1e6])
    _, log_det = coupling(x)
    assert np.allclose(log_det, 8 * (0.5 + 2.0))


def test_errors():
    with pytest.raises(ValueError, match=r"multiples of 2\^\(num_scales-1\) = 4"):
        RealNVP((6, 8, 3), num_scales=3)
    with pytest.raises(ValueError, match="two places at least. Received: num_scales=3"):
        RealNVP(SHAPE, num_scales=3)
    with pytest.raises(ValueError, match="`width` must be >= 1"):
        RealNVP(SHAPE, width=0)
    with pytest.raises(ValueError, match=r"`alpha` must be in \(0, 0.5\)"):
        RealNVP(SHAPE, alpha=0.0)
