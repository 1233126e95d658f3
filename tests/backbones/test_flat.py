import keras
import numpy as np
import pytest
from toys import tiny_backbone

from keras_ssl import backbones
from keras_ssl.backbones.flat import flat_dim, flat_features


def vectors():
    inputs = keras.Input((8, 8, 3))
    return backbones.Backbone(keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs)))


def tokens():
    return backbones.vit_tiny((16, 16, 3), patch_size=8)


@pytest.mark.parametrize(
    "make, width", [(tiny_backbone, 4 * 4 * 8), (vectors, 3), (tokens, 2 * 2 * 192)]
)
def test_width_and_pooling(make, width):
    backbone = make()
    x = np.random.default_rng(0).random((2, *backbone.image_shape)).astype("float32")
    flat = np.array(flat_features(backbone, x))
    assert flat_dim(backbone) == width and flat.shape == (2, width)
    if backbone.kind != "vector":
        np.testing.assert_array_equal(flat, np.array(backbone.feature_map(x)).reshape(2, -1))
    else:
        np.testing.assert_array_equal(flat, backbone(x))
