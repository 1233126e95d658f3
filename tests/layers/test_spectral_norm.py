import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.layers.spectral_norm import SpectralConv2D, SpectralDense

LAYERS = [
    (lambda **kw: SpectralDense(7, name="d", **kw), (5, 6)),
    (lambda **kw: SpectralConv2D(7, 3, strides=2, name="c", **kw), (5, 8, 8, 4)),
]


def inputs(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def largest_singular_value(kernel):
    matrix = np.array(kernel, "float64").reshape(-1, kernel.shape[-1])
    return np.linalg.svd(matrix, compute_uv=False)[0]


def same_with_raw_kernel(layer, x):
    """What Keras' own layer gives with the raw kernel and no bias."""
    if isinstance(layer, SpectralDense):
        return x @ np.array(layer.kernel)
    return np.array(
        ops.conv(x, layer.kernel, layer.strides, layer.padding, data_format="channels_last")
    )


@pytest.mark.parametrize("make, shape", LAYERS)
def test_kernel_of_spectral_norm_one(make, shape):
    layer, x = make(kernel_initializer=keras.initializers.RandomNormal(stddev=3.0)), inputs(shape)
    for _ in range(100):
        y = np.array(layer(x, training=True))
    sigma = largest_singular_value(layer.kernel)
    assert sigma > 3
    np.testing.assert_allclose(y, same_with_raw_kernel(layer, x) / sigma, atol=1e-3)


@pytest.mark.parametrize("make, shape", LAYERS)
def test_nearly_normalised_when_made(make, shape):
    layer, x = make(), inputs(shape)
    y, raw = np.array(layer(x)), same_with_raw_kernel(layer, x)
    ratio = np.linalg.norm(raw) / np.linalg.norm(y)
    assert 0.9 < ratio / largest_singular_value(layer.kernel) <= 1 + 1e-5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients by tf")
@pytest.mark.parametrize("make, shape", LAYERS)
def test_gradient_is_orthogonal_to_the_kernel(make, shape):
    import tensorflow as tf

    layer, x = make(), inputs(shape)
    layer(x)
    for training in (False, True):
        with tf.GradientTape() as tape:
            loss = ops.sum(ops.sin(layer(x, training=training)))
        grad = tape.gradient(loss, layer.kernel.value).numpy()
        kernel = layer.kernel.numpy()
        norms = np.linalg.norm(grad) * np.linalg.norm(kernel)
        assert norms > 1e-2
        assert abs((grad * kernel).sum()) < 1e-5 * norms


@pytest.mark.parametrize("make, shape", LAYERS)
def test_length_of_the_kernel_does_not_matter(make, shape):
    layer, x = make(), inputs(shape)
    before = np.array(layer(x))
    layer.kernel.assign(layer.kernel * 37.0)
    np.testing.assert_allclose(layer(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make, shape", LAYERS)
def test_u_moves_in_training_alone_and_the_kernel_never(make, shape):
    layer, x = make(), inputs(shape)
    layer(x)
    u, kernel = np.array(layer.u), np.array(layer.kernel)
    layer(x, training=False)
    np.testing.assert_array_equal(layer.u, u)
    layer(x, training=True)
    assert np.abs(np.array(layer.u) - u).max() > 0
    np.testing.assert_array_equal(layer.kernel, kernel)
    assert np.linalg.norm(layer.u) == pytest.approx(1, abs=1e-6)
    assert [v.name for v in layer.trainable_variables] == ["kernel", "bias"]
    assert [v.name for v in layer.non_trainable_variables] == ["u"]


@pytest.mark.parametrize("make, shape", LAYERS)
def test_config_and_weights_round_trip(make, shape):
    layer, x = make(use_bias=False, kernel_initializer="he_normal"), inputs(shape)
    layer(x, training=True)
    again = type(layer).from_config(layer.get_config())
    again.build(shape)
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


def test_in_a_saved_model(tmp_path):
    images = keras.Input((8, 8, 3))
    x = SpectralConv2D(4, 3)(images)
    model = keras.Model(images, SpectralDense(2)(keras.layers.Flatten()(x)))
    x = inputs((2, 8, 8, 3))
    before = model(x, training=True), model(x)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), before[1])


def test_mixed_precision_estimates_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = SpectralConv2D(7, 3)
    keras.config.set_dtype_policy("float32")
    full, x = SpectralConv2D(7, 3), inputs((5, 8, 8, 4))
    full(x)
    half.build(x.shape)
    half.set_weights(full.get_weights())
    for _ in range(20):
        y, y_half = full(x, training=True), half(x, training=True)
    assert keras.backend.standardize_dtype(y_half.dtype) == "bfloat16"
    np.testing.assert_allclose(half.u, full.u, atol=1e-6)
    np.testing.assert_allclose(ops.cast(y_half, "float32"), y, atol=0.05)


def test_zero_kernel_gives_the_bias():
    layer, x = SpectralDense(3, kernel_initializer="zeros"), inputs((2, 5))
    np.testing.assert_array_equal(layer(x, training=True), np.zeros((2, 3)))
