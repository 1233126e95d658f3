"""What holds for all normalising flows; what one paper says alone is in the method's own file."""

import math

import keras
import numpy as np
import pytest
from toys import images

from keras_ssl import data
from keras_ssl.layers.starting import starting
from keras_ssl.methods.glow import Glow, glow_flow
from keras_ssl.methods.nice import NICE, nice_flow
from keras_ssl.methods.real_nvp import RealNVP, real_nvp_flow
from keras_ssl.ops import dequantized

SHAPE, DIMS = (4, 4, 3), 48
F64 = {"dtype": "float64"}
MAKERS = {
    "NICE": lambda **kw: NICE(SHAPE, **{"num_couplings": 3, "width": 8, "depth": 1, **kw}),
    "RealNVP": lambda **kw: RealNVP(SHAPE, **{"num_scales": 1, "width": 2, **kw}),
    "Glow": lambda **kw: Glow(SHAPE, **{"num_levels": 2, "num_steps": 1, "width": 4, **kw}),
}
flow = pytest.mark.parametrize("name", MAKERS)


def stirred(name, seed=0):
    """A model that has had its start, with random weights."""
    keras.utils.set_random_seed(seed)
    model, rng = MAKERS[name](), np.random.default_rng(seed)
    model.begin_epoch(data.load(images(32, SHAPE)))
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape))
    return model


def batch_of(n=8):
    return {
        "views": (images(n, SHAPE, dtype="float32"),),
        "pixel_noise": np.random.default_rng(3).random((n, *SHAPE)).astype("float32"),
    }


# --- The flow


@flow
def test_whole_flow_in_double_precision(name):
    """Its log-determinant is that of the Jacobian by finite differences, its inverse exact."""
    keras.utils.set_random_seed(0)
    makers = {
        "NICE": lambda: nice_flow(SHAPE, 3, 8, 1, whitening=True, **F64),
        "RealNVP": lambda: real_nvp_flow(SHAPE, 2, 2, 1, **F64),
        "Glow": lambda: glow_flow(SHAPE, 2, 1, 4, **F64),
    }
    f, rng = makers[name](), np.random.default_rng(0)
    y = rng.random((6, *SHAPE))
    with starting():
        f(y)
    for variable in f.trainable_variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape))
    np.testing.assert_allclose(f.inverse(f(y)[0]), y, atol=1e-8)
    step = 1e-5 * np.eye(DIMS).reshape(DIMS, *SHAPE)
    ahead, behind = (np.array(f(y[:1] + sign * step)[0]) for sign in (1, -1))
    _, expected = np.linalg.slogdet((ahead - behind) / 2e-5)
    assert float(f(y[:1])[1][0]) == pytest.approx(expected, abs=1e-6)


# --- The likelihood


@flow
def test_loss_is_the_mean_bound_of_code_lengths(name):
    """Density of the dequantised pixels, by the change of variables, in units of 8-bit values."""
    model, batch = stirred(name), batch_of()
    z, log_det = (
        np.array(part, "float64")
        for part in model.flow(dequantized(batch["views"][0], batch["pixel_noise"]))
    )
    assert z.shape == (8, DIMS)
    if name == "NICE":  # the logistic density
        density = -z - 2 * np.log1p(np.exp(-z))
    else:
        density = -(z**2) / 2 - math.log(2 * math.pi) / 2
    nats = -(density.sum(1) + log_det) + DIMS * math.log(256)
    losses = model.compute_losses(batch, training=True)
    assert list(losses) == ["loss"]
    assert float(losses["loss"]) == pytest.approx(nats.mean(), rel=1e-5)


@flow
def test_densities_integrate_to_one(name):
    """Of images of few pixels: a mean over draws of the prior of 1 / p(y), within a box.

    With y = f^-1(z), E_z[1{y in box} / p(y)] is the volume of the box, if p is a density.
    """
    keras.utils.set_random_seed(0)
    shape = (2, 2, 1)
    small = {
        "NICE": lambda: NICE(shape, num_couplings=2, width=4, depth=1),
        "RealNVP": lambda: RealNVP(shape, num_scales=1, width=2),
        "Glow": lambda: Glow(shape, num_levels=1, num_steps=2, width=4),
    }
    model = small[name]()
    y = np.random.default_rng(0).random((256, *shape)).astype("float32")
    with starting():
        model.flow(y)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape))
    z = rng.logistic(size=(40_000, 4)) if name == "NICE" else rng.standard_normal((40_000, 4))
    y = np.array(model.flow.inverse(z.astype("float32")))
    z, log_det = (np.array(part, "float64") for part in model.flow(y))
    inside = ((y > 0.3) & (y < 0.7)).all(axis=(1, 2, 3))
    log_p = (
        (-z - 2 * np.log1p(np.exp(-z))).sum(1)
        if name == "NICE"
        else (-(z**2) / 2 - math.log(2 * math.pi) / 2).sum(1)
    ) + log_det
    weights = np.where(inside, np.exp(-np.where(inside, log_p, 0)), 0)
    error = weights.std() / math.sqrt(len(weights))
    assert inside.sum() > 100 and error < 0.1 * 0.4**4
    assert weights.mean() == pytest.approx(0.4**4, abs=4 * error)


@flow
def test_log_prob(name):
    model, x = stirred(name), images(6, SHAPE)
    nats = np.array(model.log_prob(x))
    assert nats.shape == (6,) and nats.dtype == "float32"
    np.testing.assert_array_equal(nats, model.log_prob(x))
    assert np.abs(nats - np.array(model.log_prob(x, seed=1))).max() > 1e-3
    # An image's likelihood does not depend on the others.
    noise = np.array(keras.random.uniform((6, *SHAPE), seed=0))
    alone = [model.compute_losses(
        {"views": (x[i : i + 1] / np.float32(255),), "pixel_noise": noise[i : i + 1]}, False
    )["loss"] for i in range(6)]  # fmt: skip
    np.testing.assert_allclose(-nats, np.array(alone), rtol=1e-5)


def test_rematerialisation_changes_nothing():
    def trained(remat):
        keras.utils.set_random_seed(0)
        model = MAKERS["Glow"](remat=remat)
        model.compile(keras.optimizers.SGD(1e-4))
        history = model.fit(images(16, SHAPE), batch_size=8, epochs=1, verbose=0).history
        return history["loss"], model.get_weights()

    (loss, weights), (again, found) = trained(False), trained(True)
    np.testing.assert_allclose(loss, again, rtol=1e-6)
    for a, b in zip(weights, found):
        np.testing.assert_allclose(a, b, atol=1e-5)


# --- Images from latents


@flow
def test_the_whole_flow_inverts(name):
    model, x = stirred(name), images(8, SHAPE)
    y = np.random.default_rng(0).random((8, *SHAPE)).astype("float32")
    z, _ = model.flow(y)
    np.testing.assert_allclose(model.flow.inverse(z), y, atol=1e-4)
    line = np.array(model.interpolate(x[:3], x[3:6], 4))
    assert line.shape == (3, 4, *SHAPE)
    np.testing.assert_array_equal(np.rint(255 * line[:, 0]), x[:3])
    np.testing.assert_array_equal(np.rint(255 * line[:, -1]), x[3:6])


@flow
def test_samples_are_8_bit_images_and_a_function_of_the_seed(name):
    model = stirred(name)
    x = np.array(model.sample(5))
    assert x.shape == (5, *SHAPE) and x.dtype == "float32" and 0 <= x.min() <= x.max() <= 1
    np.testing.assert_allclose(255 * x, np.rint(255 * x), atol=1e-4)
    np.testing.assert_array_equal(x, model.sample(5))
    assert np.abs(x - np.array(model.sample(5, seed=1))).max() > 0.1


# --- The start


@flow
def test_starts_once_from_the_first_images(name):
    model = MAKERS[name]()
    model.begin_epoch(data.load(images(32, SHAPE)))
    z = np.array(model.flow(dequantized(images(32, SHAPE) / np.float32(255), 0.5))[0])
    assert int(model.started) == 1
    np.testing.assert_allclose(z.var(), 0.88**2 if name == "Glow" else 1.0, atol=0.2)
    before = model.get_weights()
    model.begin_epoch(data.load(images(32, SHAPE, seed=1)))
    model.begin_epoch(None)  # started: ready batches will do
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@flow
def test_start_needs_images_and_draws_from_no_generator(name):
    model = MAKERS[name]()
    with pytest.raises(
        ValueError, match="starts from images.*Received: ready batches.*begin_epoch"
    ):
        model.begin_epoch(None)
    weights = model.get_weights()
    keras.utils.set_random_seed(1)
    model.begin_epoch(data.load(images(32, SHAPE)))
    first = model.get_weights()
    model.set_weights(weights)
    keras.utils.set_random_seed(2)
    model.begin_epoch(data.load(images(32, SHAPE)))
    for a, b in zip(first, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@flow
def test_default_views_bring_noise(name):
    model = MAKERS[name]()
    batch = next(iter(data.stream(
        data.load(images(16, SHAPE)), model.default_views(SHAPE[:2]), 16, seed=0
    )))  # fmt: skip
    assert set(model.batch_keys) <= set(batch)
    noise = batch["pixel_noise"].numpy()
    assert noise.shape == (16, *SHAPE) and 0 <= noise.min() < 0.1 < 0.9 < noise.max() < 1


# --- The encoder


@flow
def test_features_are_hidden_ones_and_share_the_flows_weights(name):
    model, x = stirred(name), images(4, SHAPE)
    own = {id(v) for v in model.flow.weights}
    shared = [v for v in model.backbone.weights if id(v) in own]
    assert shared and len(shared) == len(model.backbone.weights)
    features = np.array(model.encode(x))
    assert features.shape == (4, model.backbone.feature_dim) and features.min() >= 0
    assert model.image_shape == SHAPE


@flow
def test_encoder_as_keras_file(name, tmp_path):
    model, x = stirred(name), images(4, SHAPE)
    model.export_encoder(tmp_path / "encoder.keras")
    encoder = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(encoder(x / np.float32(255)), model.encode(x), atol=1e-5)
