"""L*a*b*: known colours, greys, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.ops.color import rgb_to_lab, rgb_to_ydbdr


@pytest.mark.parametrize(
    "rgb, lab",
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
    ],
)
def test_known_colours(rgb, lab):
    found = np.array(rgb_to_lab(np.full((2, 3, 3), rgb, "float32")))
    np.testing.assert_allclose(found, np.broadcast_to(lab, (2, 3, 3)), atol=0.02)


def test_greys_have_no_colour_and_a_rising_lightness():
    grey = np.linspace(0, 1, 100, dtype="float32")[:, None] * np.ones(3, "float32")
    lab = np.array(rgb_to_lab(grey))
    np.testing.assert_allclose(lab[:, 1:], 0, atol=1e-3)
    assert (np.diff(lab[:, 0]) > 0).all()


def test_half_precision_is_computed_in_float32():
    x = np.random.default_rng(0).random((4, 3)).astype("float16")
    found = rgb_to_lab(ops.cast(x, "float16"))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, rgb_to_lab(x.astype("float32")), atol=1e-3)


def test_ydbdr_of_known_colours():
    rgb = np.array([(1, 1, 1), (0, 0, 1), (1, 0, 0), (0.3, 0.3, 0.3)], "float32")
    expected = [(1, 0, 0), (0.114, 1.333, 0.217), (0.299, -0.45, -1.333), (0.3, 0, 0)]
    found = np.array(rgb_to_ydbdr(rgb))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    luma = found[:, 0]
    np.testing.assert_allclose(found[:, 1], 1.505 * (rgb[:, 2] - luma), atol=2e-3)
    np.testing.assert_allclose(found[:, 2], -1.902 * (rgb[:, 0] - luma), atol=2e-3)


@pytest.mark.parametrize("convert", [rgb_to_lab, rgb_to_ydbdr])
def test_other_channels_are_refused(convert):
    with pytest.raises(ValueError, match=r"three channels.*\(2, 2, 1\)"):
        convert(np.zeros((2, 2, 1), "float32"))
