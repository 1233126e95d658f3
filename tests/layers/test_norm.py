"""Batch normalisation: Keras' layer with a faster kernel, number for number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import batch_norm, norm


def run(layer, x):
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        y = layer(inputs, training=True)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 3)
    gradients = tape.gradient(loss, [inputs, *[v.value for v in layer.trainable_variables]])
    return [
        tf.cast(t, "float32").numpy()
        for t in [y, *gradients, layer.moving_mean, layer.moving_variance]
    ]


@pytest.mark.parametrize("shape", [(8, 5, 6, 16), (16, 12), (4, 1, 3, 3)], ids=str)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "affine", [{}, {"center": False}, {"center": False, "scale": False}], ids=str
)
def test_equals_keras(shape, policy, affine):
    x = 3 * np.random.default_rng(0).standard_normal(shape).astype("float32") + 1
    ours = batch_norm(dtype=policy, **affine)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy, **affine)
    tolerance = {"float32": 2e-5, "mixed_bfloat16": 5e-2, "mixed_float16": 5e-3}[policy]
    for a, b in zip(run(ours, x), run(theirs, x)):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))
    np.testing.assert_allclose(
        ours(x, training=False), theirs(x, training=False), atol=tolerance * 10
    )


def test_frozen_layer_uses_moving_statistics():
    layer = batch_norm()
    layer.build((None, 4, 4, 2))
    layer.trainable = False
    x = 5 + np.random.default_rng(0).standard_normal((8, 4, 4, 2)).astype("float32")
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_config_round_trip():
    layer = batch_norm(name="n", center=False)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.momentum, again.epsilon, again.center) == (0.9, 1e-5, False)


def test_groups_normalise_by_themselves():
    """As many layers as groups, each fed its part; running statistics go to the mean of groups."""
    x = np.random.default_rng(0).normal(size=(12, 4, 4, 3)).astype("float32")
    layer, expected = batch_norm(), []
    layer.build(x.shape)
    means, variances = [], []
    for part in np.split(x, 4):
        m, v = part.mean((0, 1, 2)), part.var((0, 1, 2))
        expected.append((part - m) / np.sqrt(v + 1e-5))
        means.append(m)
        variances.append(v)
    with norm.grouped(4):
        found = layer(x, training=True)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * np.mean(means, 0), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * np.mean(variances, 0), atol=1e-5)
    whole = layer(x, training=True)
    assert not np.allclose(whole, found, atol=1e-2)


def test_groups_are_of_no_account_in_inference_and_for_vectors_alike():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    layer = batch_norm()
    layer.build(x.shape)
    plain = layer(x, training=False)
    with norm.grouped(2):
        np.testing.assert_array_equal(layer(x, training=False), plain)
        found = np.array(layer(x, training=True))
    np.testing.assert_allclose(found[:4].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found[4:].mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_still_leaves_running_statistics_and_outputs_as_they_are(groups):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32") + 3
    layer = batch_norm()
    layer.build(x.shape)
    with norm.grouped(groups):
        with norm.still():
            found = layer(x, training=True)
        np.testing.assert_array_equal(layer.moving_mean, 0)
        np.testing.assert_array_equal(layer.moving_variance, 1)
        np.testing.assert_array_equal(layer(x, training=True), found)
    assert np.all(np.array(layer.moving_mean) != 0)
