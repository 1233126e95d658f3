"""Batch normalisation: Keras' layer with a faster kernel, number for number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import batch_norm


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
