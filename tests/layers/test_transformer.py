"""Attention and blocks: what sees what, against formulas, and one place at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_ssl.layers.token_embedding import TokenEmbedding
from keras_ssl.layers.transformer import SelfAttention, TransformerBlock, along

RNG = np.random.default_rng(0)


def seen(function, x):
    """Whether output place n depends on input place m, (N, N), of a function of sequences."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    jacobian = tape.jacobian(y, x).numpy()[0, :, :, 0]  # place, width, place, width
    return np.abs(jacobian).max(axis=(1, 3)) > 0


def block(causal=True, axis=None, **kwargs):
    layer = TransformerBlock(2, causal, depth=3, axis=axis, **kwargs)
    layer.build((None, *([None] * (1 if axis is None else 2)), 6))
    return layer


def test_attention_is_the_formula():
    layer = SelfAttention(2, causal=True, output_stddev=0.3)
    x = RNG.normal(size=(2, 5, 6)).astype("float32")
    y = np.array(layer(x))
    q, k, v, w = (np.array(p, "float64") for p in layer.weights)
    q, k, v = ((x @ p).reshape(2, 5, 2, 3).transpose(0, 2, 1, 3) for p in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(3)
    scores = np.where(np.tril(np.ones((5, 5))), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = (p @ v).transpose(0, 2, 1, 3).reshape(2, 5, 6) @ w
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_block_is_the_formula():
    layer, x = block(causal=False), RNG.normal(size=(1, 4, 6)).astype("float32")
    for norm in (layer.norm1, layer.norm2):
        norm.scale.assign(RNG.normal(size=6))

    def norm(part, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * np.array(part.scale)

    after = x + np.array(layer.attention(norm(layer.norm1, x)))
    wide = norm(layer.norm2, after) @ np.array(layer.widen.kernel)
    expected = after + wide / (1 + np.exp(-1.702 * wide)) @ np.array(layer.narrow.kernel)
    np.testing.assert_allclose(np.array(layer(x)), expected, atol=1e-5)
    assert len(layer.weights) == 8  # no biases


def test_first_weights_are_the_papers():
    layer = TransformerBlock(4, depth=24)
    layer.build((None, None, 256))
    found = [float(ops.std(w)) for w in layer.attention.weights]
    np.testing.assert_allclose(found, [1 / 16] * 3 + [1 / 16 / 24**0.5], rtol=0.02)
    found = [float(ops.std(d.kernel)) for d in (layer.widen, layer.narrow)]
    np.testing.assert_allclose(found, 0.02, rtol=0.02)
    a, b = (np.array(d.kernel).ravel() for d in (layer.widen, layer.narrow))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.01  # each draws its own


@pytest.mark.parametrize("causal", [True, False])
def test_a_place_sees_those_up_to_itself(causal):
    x = RNG.normal(size=(1, 5, 6)).astype("float32")
    expected = np.tril(np.ones((5, 5))) if causal else np.ones((5, 5))
    np.testing.assert_array_equal(seen(block(causal), x), expected)


@pytest.mark.parametrize("axis", ["row", "column"])
@pytest.mark.parametrize("causal", [True, False])
def test_an_axial_block_sees_its_line(axis, causal):
    """Of a 3 x 4 map, place (r, c) sees (r', c') of its own row or column, up to its own."""
    layer = block(causal, axis)
    x = RNG.normal(size=(1, 12, 6)).astype("float32")
    found = seen(lambda x: tf.reshape(layer(tf.reshape(x, (1, 3, 4, 6))), (1, 12, 6)), x)
    r, c = (places.ravel() for places in np.indices((3, 4)))
    (own, moving) = (r, c) if axis == "row" else (c, r)
    expected = own[:, None] == own[None]
    if causal:
        expected &= moving[None] <= moving[:, None]
    np.testing.assert_array_equal(found, expected)


def test_axial_decoder_sees_all_earlier_pixels_and_no_other():
    """Rows unmasked, columns masked, one row down; then masked rows, one pixel right (Ho et al.

    2019, section 3.2): on 5 x 5 no illegal dependency, and none is missing.
    """
    rows, columns, inner = block(False, "row"), block(True, "column"), block(True, "row")
    side = 5

    def decoder(x):
        x = tf.reshape(x, (1, side, side, 6))
        above = tf.pad(columns(rows(x)), ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
        left = tf.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        return tf.reshape(inner(above + left), (1, side * side, 6))

    found = seen(decoder, RNG.normal(size=(1, side * side, 6)).astype("float32"))
    np.testing.assert_array_equal(found, np.tril(np.ones((side**2, side**2)), -1))


def test_along_an_axis_is_a_loop_over_lines():
    x = RNG.normal(size=(2, 3, 4, 6)).astype("float32")
    shift = lambda s: ops.concatenate([s[:, 1:], s[:, :1]], axis=1)  # noqa: E731
    np.testing.assert_array_equal(along("row", shift, x), np.roll(x, -1, axis=2))
    np.testing.assert_array_equal(along("column", shift, x), np.roll(x, -1, axis=1))


def test_place_by_place_is_the_whole():
    layer, x = block(), RNG.normal(size=(2, 5, 6)).astype("float32")
    cache, parts = layer.attention.empty_cache(2, 5, 6), []
    for n in range(5):
        y, cache = layer.step(x[:, n : n + 1], cache, n)
        parts.append(np.array(y))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), layer(x), atol=1e-5)


def test_remat_changes_no_number():
    x = tf.constant(RNG.normal(size=(2, 5, 6)).astype("float32"))
    plain, again = block(), block(remat=True)
    again.set_weights(plain.get_weights())
    found = []
    for layer in (plain, again):
        values = [v.value for v in layer.trainable_variables]

        @tf.function
        def gradients(layer=layer, values=values):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                y = tf.reduce_sum(layer(x) ** 2)
            return y, tape.gradient(y, values)

        found.append(tf.nest.flatten(gradients()))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_embedding_shifts_and_hides():
    tokens, shown = np.array([[3, 1, 2]]), np.array([[1.0, 0.0, 1.0]])
    shifted, plain = (TokenEmbedding(5, 3, 4, shifted=s) for s in (True, False))
    x = np.array(shifted(tokens))[0] - np.array(shifted.positions)
    vectors = np.array(shifted.vectors)
    np.testing.assert_allclose(x, [np.array(shifted.start), vectors[3], vectors[1]], atol=1e-6)
    steps = [shifted.step(tokens[:, max(n - 1, 0)], n)[:, 0] for n in range(3)]
    np.testing.assert_allclose(np.stack(steps, axis=1), shifted(tokens), atol=1e-6)
    x = np.array(plain(tokens, shown))[0] - np.array(plain.positions)
    vectors = np.array(plain.vectors)
    np.testing.assert_allclose(x, [vectors[3], 0 * vectors[1], vectors[2]], atol=1e-6)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`heads` must divide.*6.*heads=4"):
        SelfAttention(4, True, 0.1).build((None, None, 6))
    with pytest.raises(ValueError, match="`axis` must be.*'up'"):
        TransformerBlock(2, axis="up")


def test_config_round_trip():
    for layer in (block(False, "row", remat=True), TokenEmbedding(5, 3, 4, shifted=True)):
        config = keras.layers.serialize(layer)
        again = keras.layers.deserialize(config)
        assert keras.layers.serialize(again) == config
