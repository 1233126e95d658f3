import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from causality import influence
from toys import images

from keras_ssl.methods import pixel_cnn
from keras_ssl.methods.pixel_cnn import PixelCNN

SHAPE = (6, 6, 3)


def make(shape=SHAPE, gated=True, depth=2, width=9, hidden=9, **kwargs):
    keras.utils.set_random_seed(1)
    return PixelCNN(shape, width=width, depth=depth, hidden=hidden, gated=gated, **kwargs)


def sharpened(model, factor=30.0):
    """Logits that differ, as those of a trained network do."""
    last = model.network.get_layer("logits")
    last.kernel.assign(factor * last.kernel)
    return model


def logits_of(model, x):
    return np.array(model._logits(model.network(x)), "float64")


# --- The factorisation


def values_seen(model, shape):
    """Which values the logits of each value depend on, `(D, D)`; large weights show it."""
    for variable in model.network.trainable_variables:
        variable.assign(1.7 * variable)
    mix = np.random.default_rng(0).standard_normal(256)
    found = [influence(lambda x: logits_of(model, x) @ mix, shape, seed) for seed in range(3)]
    return np.any(found, axis=0).reshape(math.prod(shape), math.prod(shape))


def test_each_value_depends_on_all_values_before_it():
    """Rows, columns, colours: those before it, all of them, and no others."""
    found = values_seen(make((5, 5, 3), depth=3, width=24, hidden=48), (5, 5, 3))
    np.testing.assert_array_equal(found, np.tri(75, k=-1, dtype=bool))


def test_without_gates_there_is_a_blind_spot():
    """A row up, the first layer reaches 3 columns to the right; those beyond are never seen."""
    found = values_seen(make((4, 6, 3), gated=False, depth=3, width=48, hidden=48), (4, 6, 3))
    assert not (found & ~np.tri(72, k=-1, dtype=bool)).any()
    pixels = found.reshape(24, 3, 24, 3).any((1, 3)).reshape(4, 6, 4, 6)
    assert pixels[2, 1, 1, 4] and pixels[2, 0, 1, 3]
    assert not pixels[2, 1, 1, 5] and not pixels[2, 0, 1, 4:].any()


@pytest.mark.parametrize("shape, gated", [((2, 2, 1), True), ((2, 2, 1), False), ((1, 2, 3), True)])
def test_probabilities_of_all_images_sum_to_one(shape, gated, monkeypatch):
    values = 3 if shape[2] == 1 else 2
    monkeypatch.setattr(pixel_cnn, "_VALUES", values)
    model = sharpened(make(shape, gated))
    size = math.prod(shape)
    every = np.array(list(itertools.product(range(values), repeat=size)), "uint8")
    log_p = np.array(model.log_prob(every.reshape(-1, *shape)), "float64")
    assert log_p.std() > 0.1
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-5)


def test_untrained_is_about_uniform_and_values_are_rounded():
    model, x = make(), images(4, SHAPE)
    nats = -np.array(model.log_prob(x))
    np.testing.assert_allclose(nats, math.prod(SHAPE) * math.log(256), rtol=1e-2)
    shaken = x.astype("float32") / 255 + np.float32(0.001)
    np.testing.assert_allclose(sharpened(model).log_prob(shaken), model.log_prob(x), rtol=0.05)


def test_loss_is_the_mean_of_the_code_lengths():
    model, x = make(), images(8, SHAPE)
    loss = model.compute_losses({"views": (x.astype("float32") / 255,)}, training=True)["loss"]
    assert float(loss) == pytest.approx(-float(np.mean(model.log_prob(x))), rel=1e-5)


def test_half_precision_keeps_likelihoods_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = make(), images(4, SHAPE)
    assert model.network(x.astype("float32") / 255).dtype == tf.float32
    assert model.log_prob(x).dtype == tf.float32
    drawn = np.array(model.sample(2))
    assert drawn.dtype == np.float32 and np.unique(drawn).size > 20


# --- Drawing


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("shape", [SHAPE, (5, 4, 1)])
def test_row_by_row_is_pixel_by_pixel(gated, shape):
    model = sharpened(make(shape, gated, kernel_size=5 if gated else 3))
    fast, slow = (np.array(model.sample(3, seed=4, cached=cached)) for cached in (True, False))
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(np.rint(255 * fast), (255 * fast).astype("float32").round())
    assert fast.shape == (3, *shape) and 0 <= fast.min() and fast.max() <= 1


@pytest.mark.parametrize("gated", [True, False])
def test_what_is_drawn_follows_the_likelihood(gated):
    """Each drawn value is the one whose share of [0, 1) under `log_prob`'s network holds u."""
    model = sharpened(make(gated=gated))
    drawn = np.array(model.sample(8, seed=5))
    logits = logits_of(model, drawn)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    ends = np.cumsum(p / p.sum(-1, keepdims=True), axis=-1)
    values = np.rint(255 * drawn).astype(int)[..., None]
    upper = np.take_along_axis(ends, values, -1)[..., 0]
    lower = np.where(values > 0, np.take_along_axis(ends, np.maximum(values - 1, 0), -1), 0.0)
    u = np.array(keras.random.uniform((8, *SHAPE), seed=5))
    assert (lower[..., 0] - 1e-4 <= u).all() and (u <= upper + 1e-4).all()
    chosen = np.take_along_axis(p / p.sum(-1, keepdims=True), values, -1)
    np.testing.assert_allclose(np.log(chosen).sum((1, 2, 3, 4)), model.log_prob(drawn), rtol=1e-4)


def test_completions_keep_the_first_rows():
    model, x = make(), images(3, SHAPE)
    for cached in (True, False):
        drawn = np.array(model.complete(x, 4, seed=2, cached=cached))
        np.testing.assert_array_equal(np.rint(255 * drawn[:, :4]), x[:, :4])
        assert (np.rint(255 * drawn[:, 4:]) != x[:, 4:]).mean() > 0.9
    np.testing.assert_array_equal(model.complete(x, 0, seed=3), model.sample(3, seed=3))
    np.testing.assert_allclose(model.complete(x, 6), x / 255, atol=1e-6)


def test_samples_follow_their_seed_and_are_traced_once():
    model = make()
    a, b, c = (np.array(model.sample(2, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.9
    step = model.compiled_hook(model.draw_rows)
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_it_learns_a_distribution_and_draws_from_it():
    """Images are black or white, one of four: code lengths and frequencies become theirs."""
    rng = np.random.default_rng(0)
    white = rng.random(400) < 0.25
    x = np.broadcast_to(255 * white[:, None, None, None], (400, 4, 4, 1)).astype("uint8")
    model = make((4, 4, 1))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(x, batch_size=50, epochs=30, verbose=0)
    share = white.mean()
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert -float(np.mean(model.log_prob(x))) == pytest.approx(entropy, abs=0.1)
    drawn = np.array(model.sample(1000))
    whole = (drawn == drawn[:, :1, :1]).all((1, 2, 3)) & np.isin(drawn[:, 0, 0, 0], (0, 1))
    assert whole.mean() > 0.95
    count, expected = drawn[whole, 0, 0, 0].sum(), share * whole.sum()
    assert abs(count - expected) < 4 * math.sqrt(expected * (1 - share)) + 0.03 * whole.sum()


# --- The rest


def test_encode_is_the_pooled_middle():
    model, x = make(depth=3), images(2, SHAPE).astype("float32") / 255
    middle = keras.Model(model.network.input, model.network.get_layer("layer_2").output[1])
    np.testing.assert_allclose(model.encode(x), np.mean(middle(x), axis=(1, 2)), atol=1e-6)
    assert model.image_shape == SHAPE


def test_errors():
    for arguments, message in [
        ({"width": 2}, "`width` and `hidden` must have a channel.*3 colours.*width=2"),
        ({"depth": 0}, "`depth` must be >= 1"),
        ({"kernel_size": 4}, "`kernel_size` must be odd and >= 3. Received: kernel_size=4"),
    ]:
        with pytest.raises(ValueError, match=message):
            PixelCNN(SHAPE, **arguments)
    model = make()
    with pytest.raises(ValueError, match="`rows` must be from 0 to the height, 6. Received: rows"):
        model.complete(images(2, SHAPE), 7)
    with pytest.raises(ValueError, match=r"`images` must have shape \(B, 6, 6, 3\)"):
        model.complete(images(2), 3)
    with pytest.raises(ValueError, match="`count` must be >= 1. Received: count=0"):
        model.sample(0)
