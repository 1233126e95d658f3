import keras
import numpy as np
import pytest

from keras_ssl.layers.decoders import conv_decoder


@pytest.mark.parametrize(
    "shape, first",
    [
        ((8, 8, 3), (4, 4, 64)),
        ((28, 28, 1), (7, 7, 128)),
        ((32, 32, 3), (4, 4, 256)),
        ((33, 50, 2), (5, 7, 256)),
        ((64, 64, 3), (4, 4, 512)),
        ((96, 96, 3), (6, 6, 512)),
        ((224, 224, 3), (7, 7, 512)),
        ((3, 2, 1), (3, 2, 32)),
    ],
    ids=str,
)
def test_any_image_size(shape, first):
    decoder = conv_decoder(16, shape)
    assert decoder.output_shape == (None, *shape)
    assert decoder.get_layer("decoder_reshape").output.shape[1:] == first


def test_every_pixel_depends_on_the_latent_vector_and_gets_a_value():
    decoder = conv_decoder(5, (11, 13, 3), channels=6, widths=(16, 8, 8))
    z = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    y = np.array(decoder(z))
    assert y.shape == (4, 11, 13, 6) and np.isfinite(y).all()
    assert (y.std(0) > 0).all()


def test_a_stage_repeats_pixels():
    """With 1x1-like kernels the first map's places become squares, cropped right and below."""
    decoder = conv_decoder(2, (6, 7, 1), widths=(1, 1))
    for layer in decoder.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, "float32")
            kernel[1, 1] = 1
            layer.kernel.assign(kernel)
    places = np.arange(12, dtype="float32").reshape(3, 4)
    decoder.get_layer("decoder_dense").kernel.assign(np.stack([places.ravel(), 0 * places.ravel()]))
    y = np.array(decoder(np.array([[1.0, 0.0]], "float32")))[0, :, :, 0]
    expected = np.kron(places, np.ones((2, 2)))[:6, :7]
    np.testing.assert_allclose(y, expected, rtol=1e-4)


def test_output_is_float32_with_its_activation():
    keras.config.set_dtype_policy("mixed_bfloat16")
    decoder = conv_decoder(4, (8, 8, 3), activation="sigmoid", name="generator")
    z = 100 * np.random.default_rng(0).standard_normal((4, 4)).astype("float32")
    y = decoder(z)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert 0 <= np.min(y) < np.max(y) <= 1
    again = type(decoder).from_config(decoder.get_config())
    again.set_weights(decoder.get_weights())
    np.testing.assert_array_equal(again(z), y)


def test_errors():
    with pytest.raises(ValueError, match=r"`image_shape`.*\(None, 8, 3\)"):
        conv_decoder(4, (None, 8, 3))
    with pytest.raises(ValueError, match="`latent_dim` and `widths`.*latent_dim=0"):
        conv_decoder(0, (8, 8, 3))
    with pytest.raises(ValueError, match=r"widths=\(\)"):
        conv_decoder(4, (8, 8, 3), widths=())
