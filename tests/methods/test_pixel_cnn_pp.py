import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from causality import before, influence
from scipy.special import expit, softmax
from toys import images, ready_batches

from keras_ssl import data, losses
from keras_ssl.methods.pixel_cnn_pp import PixelCNNPP

SHAPE = (8, 8, 3)


def make(shape=SHAPE, started=True, **kwargs):
    keras.utils.set_random_seed(1)
    model = PixelCNNPP(shape, **{"width": 6, "levels": 2, "components": 2, **kwargs})
    if started:
        model.start(images(32, shape))
    return model


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def drawn(model):
    return np.array(model.sample(4, seed=5))


# --- The factorisation


@pytest.mark.parametrize("size, blocks", [((4, 4), 2), ((8, 4), 1)])
def test_each_pixel_depends_on_all_pixels_before_it(size, blocks):
    shape = (*size, 1)
    network = make(shape, width=16, blocks=blocks, levels=3).network
    found = influence(network, shape).any((2, 5))
    assert not (found & ~before(size)).any()
    if blocks == 2:
        assert (found | ~before(size)).all()


def test_likelihood_is_that_of_the_mixture_of_all_pixels(model):
    x = images(3)
    parameters = model.average(x.astype("float32") / 255)
    nats = np.array(losses.discretized_logistic_mixture(x / 255, parameters)).sum((1, 2))
    np.testing.assert_allclose(model.log_prob(x), -nats, rtol=1e-5)
    batch = {"views": (x.astype("float32") / 255,)}
    loss = float(model.compute_losses(batch, training=True)["loss"])
    assert loss == pytest.approx(nats.mean(), rel=1e-5)  # weights are their average at the start


# --- The start of weight normalisation


def test_the_start_gives_each_layer_its_moments():
    model = make(started=False)
    assert not int(model.started)
    source = data.from_array(images(48), np.arange(48) % 4)
    model.begin_epoch(source)
    assert int(model.started) == 1
    x = images(48).astype("float32") / 255
    for name, scale in (("start_u", 1.0), ("parameters", 1.0), ("double_0_ul", 1.0)):
        layer = model.network.get_layer(name)
        out = np.array(keras.Model(model.network.input, layer.output)(x))
        np.testing.assert_allclose(out.mean((0, 1, 2)), 0.0, atol=1e-3)
        np.testing.assert_allclose(out.std((0, 1, 2)), scale, rtol=1e-2)
    for a, b in zip(model.average.weights, model.network.weights):
        np.testing.assert_array_equal(a, b)


def test_it_starts_once(tmp_path):
    model = make()
    weights = model.get_weights()
    source = data.from_array(images(48, seed=9), np.arange(48) % 4)
    model.begin_epoch(source)
    model.begin_epoch(None)
    for old, new in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.begin_epoch(source)
    for old, new in zip(weights, loaded.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_ready_batches_need_a_start():
    model = make(started=False)
    batches = ready_batches().map(lambda batch: {"views": batch["views"][:1]})
    with pytest.raises(
        ValueError, match="weight normalisation.*starts from images.*ready batches.*begin_epoch"
    ):
        model.fit(batches, verbose=0)
    model.start(images(32))
    model.begin_epoch(None)


# --- The average of the weights


def test_the_average_follows_and_is_what_is_used():
    model = make(decay=0.5)
    x = images(16)
    model.compile(keras.optimizers.SGD(1e-5))
    first = [np.array(w) for w in model.network.trainable_variables]
    model.fit(x, batch_size=16, verbose=0)
    moved = zip(first, model.network.trainable_variables, model.average.weights)
    decay = 2 / 11  # (1 + t) / (10 + t) after the first step
    for old, new, average in moved:
        expected = decay * old + (1 - decay) * np.array(new)
        np.testing.assert_allclose(average, expected, atol=1e-6)
    before = np.array(model.log_prob(x)), np.array(model.encode(x))
    for variable in model.network.trainable_variables:
        variable.assign(0.0 * variable)
    np.testing.assert_array_equal(before[0], model.log_prob(x))
    np.testing.assert_array_equal(before[1], model.encode(x))


# --- Dropout


def test_dropout_is_a_function_of_the_batch():
    model = make(dropout=0.5)
    x, noise = images(8).astype("float32") / 255, np.linspace(0, 0.9, 8).astype("float32")
    batch = {"views": (x,), "dropout_noise": noise}
    loss = lambda b, training=True: float(model.compute_losses(b, training)["loss"])  # noqa: E731
    assert loss(batch) == loss(batch) != loss({**batch, "dropout_noise": noise[::-1].copy()})
    assert loss(batch) != loss(batch, False) == pytest.approx(-np.mean(model.log_prob(x)), rel=1e-5)
    assert model.batch_keys == ("views", "dropout_noise")
    views = model.default_views((8, 8))
    made = next(iter(data.stream(data.load(images(16)), views, 16, seed=0)))
    assert made["dropout_noise"].shape == (16,)


# --- Drawing


def test_row_by_row_is_pixel_by_pixel(model, drawn):
    np.testing.assert_array_equal(drawn, model.sample(4, seed=5, cached=False))
    assert drawn.shape == (4, *SHAPE) and len(np.unique(drawn)) > 50
    np.testing.assert_allclose(255 * drawn, np.rint(255 * drawn), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, blocks, levels", [((8, 12, 1), 1, 3), ((12, 8, 3), 2, 3), ((5, 3, 3), 1, 1)]
)
def test_other_shapes_row_by_row(shape, blocks, levels):
    model = make(shape, blocks=blocks, levels=levels)
    fast, slow = (np.array(model.sample(2, seed=4, cached=cached)) for cached in (True, False))
    np.testing.assert_array_equal(fast, slow)


def test_what_is_drawn_follows_the_likelihood(model, drawn):
    """Component and values by inversion, in float64, of the network's parameters for the image."""
    p = np.array(model.average(drawn), "float64")
    noise = np.array(keras.random.uniform((4, 8, 8, 4), seed=5), "float64")
    weights, rest = softmax(p[..., :2], axis=-1), p[..., 2:].reshape(4, 8, 8, 3, 3, 2)
    k = (np.cumsum(weights, -1)[..., :1] <= noise[..., :1]).astype(int)
    pick = lambda x: np.take_along_axis(x, k, -1)[..., 0]  # noqa: E731
    mean, scale, coefficient = (
        np.stack([pick(rest[..., c, i, :]) for c in range(3)], axis=-1) for i in range(3)
    )
    x, a = 2 * drawn.astype("float64") - 1, np.tanh(coefficient)
    mean[..., 1] += a[..., 0] * x[..., 0]
    mean[..., 2] += a[..., 1] * x[..., 0] + a[..., 2] * x[..., 1]
    u = noise[..., 1:]
    expected = mean + np.exp(np.maximum(scale, -7)) * np.log(u / (1 - u))
    grey = np.rint(127.5 * (np.clip(expected, -1, 1) + 1))
    assert (grey == np.rint(255 * drawn)).mean() > 0.99  # but for ties in rounding
    assert np.abs(grey - 255 * drawn).max() < 1.01


def test_completions_keep_the_first_rows(model):
    x = images(4)
    drawn = np.array(model.complete(x, 3, seed=2))
    np.testing.assert_array_equal(np.rint(255 * drawn[:, :3]), x[:, :3])
    np.testing.assert_array_equal(drawn, model.complete(x, 3, seed=2, cached=False))
    np.testing.assert_array_equal(model.complete(x, 0, seed=3), model.sample(4, seed=3))


def test_samples_are_traced_once(model, drawn):
    np.testing.assert_array_equal(drawn, model.sample(4, seed=5))
    assert (np.array(model.sample(4, seed=6)) != drawn).mean() > 0.5
    assert model.compiled_hook(model.draw_rows).experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_it_learns_and_draws_what_it_has_learned():
    """Images are dark or bright; first pixels are bright as often as the mixture says."""
    rng = np.random.default_rng(0)
    bright = rng.random(400) < 0.25
    x = np.broadcast_to(np.where(bright, 200, 30)[:, None, None, None], (400, 4, 4, 3))
    model = make((4, 4, 3), started=False)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(x.astype("uint8"), batch_size=50, epochs=60, verbose=0)
    guess = math.prod(model.image_shape) * math.log(256)
    assert -float(np.mean(model.log_prob(x.astype("uint8")))) < 0.4 * guess
    first = np.array(model.average(x[:1].astype("float32") / 255))[0, 0, 0]  # without context
    weights, means, scales = softmax(first[:2]), first[2:4], np.exp(np.maximum(first[4:6], -7))
    middle = 2 * 115.5 / 255 - 1
    probability = float(weights @ expit((means - middle) / scales))  # of a bright red
    drawn = (np.array(model.sample(1000))[:, 0, 0, 0] > 115.5 / 255).mean()
    assert drawn == pytest.approx(probability, abs=4 * math.sqrt(probability / 1000))


# --- The rest


def test_half_precision_keeps_likelihoods_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = make(), images(4)
    assert model.network(x.astype("float32") / 255).dtype == tf.float32
    assert model.log_prob(x).dtype == tf.float32
    assert np.isfinite(np.array(model.log_prob(x))).all()


def test_encode_is_the_pooled_middle(model):
    x = images(2).astype("float32") / 255
    parts = [model.average.get_layer(f"down_1_0_{stream}").output for stream in ("u", "ul")]
    maps = keras.Model(model.average.input, parts)(x)
    assert maps[0].shape == (2, 4, 4, 6)
    expected = np.concatenate([np.mean(m, axis=(1, 2)) for m in maps], axis=-1)
    np.testing.assert_allclose(model.encode(x), expected, atol=1e-6)


def test_errors():
    for shape in ((8, 6, 3), (8, 8, 2)):
        with pytest.raises(ValueError, match="multiples of 4, as levels=3.*1 or 3 channels"):
            PixelCNNPP(shape)
    for name, value in (("width", 0), ("blocks", 0), ("levels", 0), ("components", 0)):
        with pytest.raises(ValueError, match=f"`{name}` must be >= 1. Received: {name}=0"):
            PixelCNNPP(SHAPE, **{name: value})
    for name in ("dropout", "decay"):
        with pytest.raises(ValueError, match=rf"`{name}` must be in \[0, 1\)"):
            PixelCNNPP(SHAPE, **{name: 1.0})
