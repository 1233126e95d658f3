import math

import keras
import numpy as np
import pytest
from toys import images

from keras_ssl import data
from keras_ssl.layers.couplings import AffineCoupling
from keras_ssl.layers.flows import ActNorm, Invertible1x1, Squeeze
from keras_ssl.methods.glow import Glow

SHAPE = (4, 4, 3)


def make(**kwargs):
    return Glow(SHAPE, **{"num_levels": 2, "num_steps": 2, "width": 4, **kwargs})


def test_levels_of_the_paper():
    """Squeeze, K steps, and a prior of what leaves, or of the top."""
    step = [ActNorm, Invertible1x1, AffineCoupling]
    first, last = make().flow.levels
    assert [type(layer) for layer in first.steps] == [Squeeze, *step, *step, AffineCoupling]
    assert [type(layer) for layer in last.steps] == [Squeeze, *step, *step, ActNorm]
    assert [first.steps[i].scale for i in (3, 6, 7)] == ["sigmoid", "sigmoid", "exp"]
    assert last.steps[-1].from_data is False


def test_first_likelihood():
    """At first a rotation of the pixels, and a scale sigmoid(2) of half of them in each step."""
    model, x = make(num_levels=1, num_steps=1), images(5, SHAPE)
    u = np.array(keras.random.uniform((5, *SHAPE), seed=0), "float64")
    y = (x + u) / 256
    scale = 1 / (1 + math.exp(-2))
    linear = model.flow.levels[0].steps[2]
    squeezed, _ = Squeeze()(y.astype("float32"))
    rotated = np.array(linear(squeezed)[0], "float64")
    np.testing.assert_allclose((rotated**2).sum((1, 2, 3)), (y**2).sum((1, 2, 3)), rtol=1e-5)
    rotated[..., 6:] *= scale
    nats = (
        -0.5 * (rotated**2 + math.log(2 * math.pi)).sum((1, 2, 3))
        + 24 * math.log(scale)
        - 48 * math.log(256)
    )
    np.testing.assert_allclose(model.log_prob(x), nats, rtol=1e-5)


def test_priors_make_what_leaves_normal():
    """A prior with the right mean and scale."""
    prior = make().flow.levels[0].steps[-1]
    affine = prior.network.layers[-1]  # the offsets of -mean and -log scale
    mean, scale = 3.0, 0.5
    affine.bias.assign([-mean] * 6 + [-math.log(scale)] * 6)
    kept = np.zeros((1000, 2, 2, 6), "float32")
    out = np.random.default_rng(0).normal(mean, scale, kept.shape).astype("float32")
    y, _ = prior(np.concatenate([kept, out], axis=-1))
    z = np.array(y)[..., 6:]
    assert z.mean() == pytest.approx(0, abs=0.03) and z.std() == pytest.approx(1, abs=0.03)


def test_temperature():
    """At temperature 0 there is one image; spread grows with the temperature."""
    model = make()
    model.begin_epoch(data.load(images(64, SHAPE)))
    coldest = np.array(model.sample(4, temperature=0.0))
    np.testing.assert_array_equal(coldest, np.broadcast_to(coldest[:1], coldest.shape))
    spread = [np.array(model.sample(64, temperature=t)).std(axis=0).mean() for t in (0.2, 0.6, 1.0)]
    assert spread[0] < spread[1] < spread[2]


def test_learns_what_pixels_share():
    """Images of one colour each: the flow codes them in fewer bits than pixels by themselves."""
    x = np.broadcast_to(np.arange(64, dtype="uint8")[:, None, None, None] * 4, (64, *SHAPE)).copy()
    model = make(num_levels=1)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, batch_size=32, epochs=30, verbose=0)
    bits = -np.array(model.log_prob(x)).mean() / (48 * math.log(2))
    assert bits < 6.0  # pixels by themselves: 8


def test_errors():
    with pytest.raises(ValueError, match=r"multiples of 2\^num_levels = 8. Received.*\(4, 4, 3\)"):
        make(num_levels=3)
    for name in ("num_levels", "num_steps", "width"):
        with pytest.raises(ValueError, match=f"`{name}` must be >= 1"):
            make(**{name: 0})
