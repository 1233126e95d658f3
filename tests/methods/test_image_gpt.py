"""ImageGPT: what sees what, the two objectives, samplers, features."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from toys import images

from keras_ssl import ImageGPT, backbones, data, evaluation

SHAPE, K = (4, 4, 3), 8
RNG = np.random.default_rng(0)


def make(shape=SHAPE, random_head=True, **kwargs):
    keras.utils.set_random_seed(0)
    model = ImageGPT(shape, **{"palette_size": K, "width": 8, "depth": 3, "heads": 2, **kwargs})
    model.palette.fit(data.from_array(images(32, shape)), shape[:2])
    if random_head:
        model.head.kernel.assign(RNG.normal(size=(model.width, model.palette_size)))
    return model


def tokens_of(model, n=4, seed=1):
    return np.random.default_rng(seed).integers(model.palette_size, size=(n, model.length))


def pictures(model, tokens):
    return np.array(model.palette.images(tokens, model.input_shape))


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_a_token_is_predicted_from_those_before_it(objective):
    """By the Jacobian of the logits with respect to the vectors of the tokens."""
    model = make(objective=objective)
    vectors = tf.Variable(np.array(ops.take(model.embedding.vectors, tokens_of(model, 1), axis=0)))

    def logits(x):  # the network from the vectors on
        if objective == "autoregressive":
            start = ops.broadcast_to(model.embedding.start, (1, 1, model.width))
            x = ops.concatenate([start, x[:, :-1]], axis=1)
        x = x + model.embedding.positions
        for block in model.blocks:
            x = block(x)
        return model.head(model.norm(x))

    with tf.GradientTape() as tape:
        y = logits(vectors)
    seen = np.abs(tape.jacobian(y, vectors).numpy()).max(axis=(0, 2, 3, 5)) > 0
    causal = np.tril(np.ones((16, 16)), -1)
    np.testing.assert_array_equal(seen, causal if objective == "autoregressive" else 1)


def test_loss_starts_at_the_log_of_the_palette():
    for objective in ("autoregressive", "bert"):
        model = make(random_head=False, objective=objective)
        noise = RNG.random((16, 16)).astype("float32")
        noise[:, 0] = 0.0  # of each image something is hidden
        batch = {"views": (images(16, SHAPE, dtype="float32"),), "mask_noise": noise}
        loss = float(model.compute_losses(batch, training=False)["loss"])
        assert loss == pytest.approx(math.log(K), rel=1e-5)


def test_loss_is_that_of_log_prob():
    """Nats a token of the one, nats an image of the other."""
    model, x = make(), images(6, SHAPE, dtype="float32")
    loss = float(model.compute_losses({"views": (x,)}, training=False)["loss"])
    assert loss == pytest.approx(-np.mean(model.log_prob(x)) / 16, rel=1e-5)


def test_probabilities_of_all_images_sum_to_one():
    """Two pixels by two, three colours: 81 images."""
    model = make((2, 2, 3), palette_size=3)
    every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    x = pictures(model, every)
    np.testing.assert_array_equal(model.palette(x), every)
    assert float(np.exp(model.log_prob(x)).sum()) == pytest.approx(1, rel=1e-5)


def test_hidden_tokens_alone_count_and_are_not_seen():
    model, x = make(objective="bert"), images(4, SHAPE, dtype="float32")
    noise = RNG.random((4, 16)).astype("float32")
    hidden = noise < 0.15
    hidden[0], noise[0] = False, 0.9  # an image of which nothing is hidden counts as 0
    tokens = np.array(model.palette(x))
    loss = float(model.compute_losses({"views": (x,), "mask_noise": noise}, False)["loss"])
    logits = np.array(model._logits(tokens, 1.0 - hidden.astype("float32")), "float64")
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0]
    expected = np.mean((nats * hidden).sum(1) / np.maximum(hidden.sum(1), 1))
    assert loss == pytest.approx(expected, rel=1e-4)
    other = np.where(hidden, (tokens + 1) % K, tokens)  # what is hidden cannot change the rest
    again = np.array(model._logits(other, 1.0 - hidden.astype("float32")))
    np.testing.assert_array_equal(again, np.array(logits, "float32"))


def test_cached_samples_are_the_naive_ones():
    model = make()
    cached, naive = (np.array(model.sample(5, seed=3, cached=c)) for c in (True, False))
    np.testing.assert_array_equal(cached, naive)
    np.testing.assert_array_equal(cached, model.sample(5, seed=3))
    assert (cached != np.array(model.sample(5, seed=4))).any()
    np.testing.assert_array_equal(pictures(model, model.palette(cached)), cached)


def test_half_precision_draws_too():
    """Both ways, in which rounding may differ; a likely pixel is drawn alike."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make()
    cached, naive = (np.array(model.sample(4, seed=0, cached=c)) for c in (True, False))
    assert (cached == naive).mean() > 0.5
    np.testing.assert_array_equal(pictures(model, model.palette(cached)), cached)


def test_sampler_is_traced_once_a_count():
    model, traces = make(), []
    draw = model._draw_row
    model._draw_row = lambda *inputs: traces.append(1) or draw(*inputs)
    for seed in range(3):
        model.sample(2, seed=seed)
    assert len(traces) == 1


@pytest.mark.slow
def test_samples_have_the_models_frequencies():
    """Chi-square of 4,000 images of two pixels in three colours."""
    from scipy import stats

    model = make((1, 2, 3), palette_size=3)
    model.head.kernel.assign(0.3 * model.head.kernel)
    every = np.array([(a, b) for a in range(3) for b in range(3)])
    expected = np.exp(np.array(model.log_prob(pictures(model, every)), "float64"))
    tokens = np.array(model.palette(model.sample(4000, seed=0)))
    counts = np.bincount(3 * tokens[:, 0] + tokens[:, 1], minlength=9)
    assert stats.chisquare(counts, 4000 * expected / expected.sum()).pvalue > 1e-3


def test_low_temperature_is_the_likeliest():
    model = make()
    x = model.sample(2, seed=0, temperature=1e-4)
    tokens = np.array(model.palette(x))
    np.testing.assert_array_equal(np.argmax(model._logits(tokens), axis=-1), tokens)


def test_complete_keeps_the_first_rows():
    model, x = make(), images(3, SHAPE)
    tokens = np.array(model.palette(x / np.float32(255)))
    done = np.array(model.palette(model.complete(x, 2, seed=1)))
    np.testing.assert_array_equal(done[:, :8], tokens[:, :8])
    assert (done[:, 8:] != tokens[:, 8:]).any()
    np.testing.assert_array_equal(model.complete(x, 4), pictures(model, tokens))
    np.testing.assert_array_equal(model.complete(x, 0, seed=3), model.sample(3, seed=3))


def test_features_are_the_normalised_input_of_the_next_block():
    model, x = make(feature_block=2), images(3, SHAPE)
    h = model.embedding(model.palette(x / np.float32(255)))
    for block in model.blocks[:2]:
        h = block(h)
    expected = np.mean(model.blocks[2].norm1(h), axis=1)
    np.testing.assert_allclose(model.encode(x), expected, atol=1e-5)
    last = np.mean(model.norm(model.blocks[2](h)), axis=1)
    stages = model.stages()
    assert list(stages) == ["block1", "block2", "block3"]
    np.testing.assert_allclose(stages["block3"](x), last, atol=1e-5)
    assert list(backbones.stages(model.backbone))[0] == "block1"


def test_code_lengths_are_bits_a_pixel():
    model = make(random_head=False)
    bits = evaluation.code_lengths(model.log_prob, images(3, SHAPE), per=model.code_unit)
    np.testing.assert_allclose(bits, math.log2(K), rtol=1e-5)


def test_the_palette_is_found_once(tmp_path):
    x = images(32, SHAPE)
    model = ImageGPT(SHAPE, palette_size=K, width=8, depth=1, heads=2)
    model.fit(x, batch_size=16, verbose=0)
    colours = np.array(model.palette.colours)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    again.compile(keras.optimizers.SGD(0.1))
    again.fit(images(32, SHAPE, seed=5), batch_size=16, verbose=0)
    np.testing.assert_array_equal(again.palette.colours, colours)


def test_ready_batches_need_a_palette():
    batches = tf.data.Dataset.from_tensors({"views": (images(8, SHAPE, dtype="float32"),)})
    model = ImageGPT(SHAPE, palette_size=K, width=8, depth=1, heads=2)
    with pytest.raises(ValueError, match="palette.*starts from images.*ready batches.*begin_epoch"):
        model.fit(batches, verbose=0)
    model.palette.fit(data.from_array(images(32, SHAPE)), SHAPE[:2])
    model.fit(batches, verbose=0)


def test_what_bert_cannot_do():
    model = make(objective="bert")
    assert not model.can("sample") and not model.can("log_prob")
    for hook, argument in (("sample", 2), ("log_prob", images(2, SHAPE))):
        with pytest.raises(ValueError, match=f"`{hook}` needs.*bert"):
            getattr(model, hook)(argument)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 0}, "`depth` must be >= 1.*depth=0"),
        ({"heads": 3}, "`heads` must divide `width`.*heads=3, width=128"),
        ({"objective": "gpt"}, "`objective` must be one of.*'gpt'"),
        ({"mask_rate": 1.0}, "`mask_rate`.*1.0"),
        ({"feature_block": 9}, "`feature_block` must be from 1 to depth=8.*9"),
        ({"palette_size": 1}, "2 colours or more.*1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageGPT(SHAPE, **arguments)


def test_images_of_too_many_pixels():
    with pytest.raises(ValueError, match=r"at most 16384 pixels.*\(224, 224, 3\).*32 x 32"):
        ImageGPT((224, 224, 3))


def test_wrong_calls():
    model = make()
    with pytest.raises(ValueError, match="`temperature` must be > 0.*0"):
        model.sample(1, temperature=0)
    with pytest.raises(ValueError, match="`rows` must be from 0 to 4.*5"):
        model.complete(images(1, SHAPE), 5)


def test_the_papers_sizes():
    """12 d^2 L + 2 K d + N d, and the small rest: the 76 million of iGPT-S, without building it."""
    d, depth, length = 16, 3, 16
    model = make(width=d, depth=depth, palette_size=K)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert count == 12 * d * d * depth + 2 * K * d + length * d + d * (2 + 2 * depth)
    assert 12 * 512**2 * 24 + 2 * 512 * 512 + 1024 * 512 == pytest.approx(76.5e6, rel=0.01)
