"""Grey values and their noise."""

import numpy as np

from keras_ssl.ops import dequantized, grey_values, quantized


def test_grey_values_are_rounded_back():
    """In float32, where cutting off 255 * (k / 255) would lose one for many of the 256 values."""
    k = np.arange(256, dtype="float32")
    np.testing.assert_array_equal(grey_values(k / np.float32(255)), k)


def test_dequantized_values_stay_in_their_bins():
    k = np.tile(np.arange(256, dtype="float32"), 64)
    noise = np.random.default_rng(0).random(k.size, dtype="float32")
    y = np.array(dequantized(k / np.float32(255), noise))
    assert (256 * y >= k).all() and (256 * y <= k + 1).all()
    np.testing.assert_allclose(256 * y - k, noise, atol=1e-4)


def test_quantized_undoes_dequantized():
    """All 256 values, whatever noise in [0, 1) they had; what lies outside is cut off."""
    x = np.arange(256, dtype="float32") / 255
    for noise in (0.0, 0.5, 0.999):
        np.testing.assert_array_equal(quantized(dequantized(x, noise)), x)
    np.testing.assert_array_equal(quantized(np.array([-0.1, 1.1], "float32")), [0, 1])
