import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl import backbones
from keras_ssl.backbones import Backbone, small_conv
from keras_ssl.backbones.backbone import normalization
from keras_ssl.backbones.tokens import token_grid, token_prefix


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _network(kind="map"):
    """(B, 8, 8, 3) to a map (B, 4, 4, 6), tokens (B, 17, 6), patch tokens or vectors (B, 96)."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 2, 2)(inputs)
    if kind in ("tokens", "patches"):
        x = keras.layers.Reshape((16, 6))(x)
    if kind == "tokens":
        x = keras.layers.ZeroPadding1D((1, 0))(x)
        x = keras.layers.Conv1D(6, 3, padding="same")(x)  # so that the class token is not zero
    if kind == "vector":
        x = keras.layers.Flatten()(x)
    return keras.Model(inputs, x)


def _images(rng, *shape):
    return rng.uniform(size=shape).astype("float32")


def test_face(rng):
    backbone = small_conv((16, 24, 3))
    images = _images(rng, 2, 16, 24, 3)
    assert backbone.built
    assert backbone.input_shape == (None, 16, 24, 3) and backbone.image_shape == (16, 24, 3)
    assert backbone.feature_dim == 256
    features, fmap = backbone(images), backbone.feature_map(images)
    assert tuple(features.shape) == (2, 256) and tuple(fmap.shape) == (2, 2, 3, 256)
    np.testing.assert_allclose(features, np.mean(fmap, axis=(1, 2)), rtol=1e-5, atol=1e-6)
    assert backbone.compute_output_shape((5, 16, 24, 3)) == (5, 256)


def test_uint8_images_equal_their_floating_point_copies(rng):
    backbone = small_conv((8, 8, 3), widths=(4, 8))
    images = rng.integers(0, 256, size=(2, 8, 8, 3)).astype("uint8")
    expected = backbone((images / 255).astype("float32"))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-5, atol=1e-6)


def test_batch_statistics_in_training_only(rng):
    backbone = small_conv((8, 8, 3), widths=(4, 8))
    images = _images(rng, 4, 8, 8, 3)
    before = [w.copy() for w in backbone.get_weights()]
    backbone(images)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights()))
    training = backbone(images, training=True)
    changed = [not np.array_equal(a, b) for a, b in zip(before, backbone.get_weights())]
    assert sum(changed) == 4
    assert np.abs(training - backbone(images)).max() > 0.01


def test_pooling_of_tokens(rng):
    network, images = _network("tokens"), _images(rng, 2, 8, 8, 3)
    tokens = np.asarray(network(images))
    by_class = Backbone(network)
    assert by_class.pooling == "cls" and by_class.num_prefix_tokens == 1
    np.testing.assert_array_equal(by_class(images), tokens[:, 0])
    mean = Backbone(network, pooling="avg")
    np.testing.assert_allclose(mean(images), tokens[:, 1:].mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mean.feature_map(images), tokens[:, 1:].reshape(2, 4, 4, 6))


def test_tokens_without_a_class_token_are_averaged(rng):
    network, images = _network("patches"), _images(rng, 2, 8, 8, 3)
    backbone = Backbone(network)
    assert backbone.pooling == "avg" and backbone.num_prefix_tokens == 0
    expected = np.mean(network(images), axis=1)
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="pooling='cls'.*patch tokens only"):
        Backbone(network, pooling="cls")


def test_vectors_pass_and_have_no_map(rng):
    network, images = _network("vector"), _images(rng, 2, 8, 8, 3)
    backbone = Backbone(network)
    np.testing.assert_array_equal(backbone(images), network(images))
    with pytest.raises(ValueError, match="no feature map"):
        backbone.feature_map(images)
    with pytest.raises(ValueError, match="`pooling` must be None"):
        Backbone(network, pooling="avg")


@pytest.mark.parametrize(
    ("tokens", "shape", "prefix"),
    [(257, (224, 224), 1), (256, (224, 224), 0), (261, (224, 224), 5), (129, (32, 64), 1)],
)
def test_class_token_and_registers_are_told_from_the_grid(tokens, shape, prefix):
    assert token_prefix(tokens, shape) == prefix


def test_the_grid_has_the_proportions_of_the_image():
    assert token_grid(128, (32, 64)) == (8, 16)
    assert token_grid(105, (30, 62)) == (7, 15)  # patch 4, rest cut off
    assert token_grid(6, (8, 8)) is None and token_grid(0, (8, 8)) is None
    with pytest.raises(ValueError, match="tokens.*Received: 8 tokens"):
        token_prefix(8, (32, 32))


def test_normalisation_is_the_first_thing(rng):
    images = _images(rng, 2, 8, 8, 3)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    network = _network()
    backbone = Backbone(network, preprocessing=normalization(mean, std, 3))
    expected = Backbone(network)((images - np.float32(mean)) / np.float32(std))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        normalization(0.5, (0.1, 0.2), 2)(np.full((1, 1, 1, 2), 0.7)), [[[[2, 1]]]], rtol=1e-5
    )


def test_normalisation_checks_its_arguments():
    assert normalization(None, None, 3) is None
    for mean, std, message in [
        (0.5, None, "come together"),
        ((0.5, 0.5), 1.0, "each of the 3 channels"),
        (0.5, 0.0, "`std` must be > 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            normalization(mean, std, 3)


def test_half_precision_normalises_in_float32(rng):
    keras.config.set_dtype_policy("mixed_float16")
    seen = []

    class Spy(keras.layers.Normalization):
        def call(self, inputs):
            seen.append(keras.backend.standardize_dtype(inputs.dtype))
            return super().call(inputs)

    spy = Spy(mean=[0.5] * 3, variance=[1.0] * 3, dtype="float32")
    backbone = Backbone(_network(), preprocessing=spy)
    features = backbone(_images(rng, 2, 8, 8, 3))
    assert set(seen) == {"float32"}
    assert keras.backend.standardize_dtype(features.dtype) == "float16"
    assert all(v.dtype == "float32" for v in backbone.trainable_variables)


@pytest.mark.parametrize(
    ("name", "policy"), [("small_conv", "mixed_float16"), ("vit_tiny", "mixed_bfloat16")]
)
def test_half_precision_features_are_near_the_full_ones(rng, policy, name):
    images = _images(rng, 2, 16, 16, 3)
    full = backbones.get(name, (16, 16, 3))
    keras.config.set_dtype_policy(policy)
    half = backbones.get(name, (16, 16, 3))
    half.set_weights(full.get_weights())
    expected, found = np.asarray(full(images)), np.asarray(ops.cast(half(images), "float32"))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["resnet18", "small_conv", "vit_tiny"])
def test_save_and_load_are_exact(rng, name, tmp_path):
    maker = getattr(backbones, name)
    backbone = maker((16, 16, 3), mean=(0.4, 0.5, 0.6), std=0.3, name="mine")
    images = _images(rng, 4, 16, 16, 3)
    backbone(images, training=True)
    backbone.save(tmp_path / "backbone.keras")
    again = keras.saving.load_model(tmp_path / "backbone.keras")
    assert isinstance(again, Backbone) and again.name == "mine"
    assert again.image_shape == (16, 16, 3) and again.pooling == backbone.pooling
    np.testing.assert_array_equal(again(images), backbone(images))
    np.testing.assert_array_equal(again.feature_map(images), backbone.feature_map(images))


def test_config_round_trip_makes_an_independent_twin(rng):
    backbone = small_conv((8, 8, 3), widths=(4, 8), mean=0.5, std=0.25)
    twin = Backbone.from_config(backbone.get_config())
    assert twin.get_config() == backbone.get_config()
    twin.set_weights(backbone.get_weights())
    images = _images(rng, 2, 8, 8, 3)
    np.testing.assert_array_equal(twin(images), backbone(images))
    twin.set_weights([2 * w for w in twin.get_weights()])
    assert np.abs(twin(images) - backbone(images)).max() > 1e-3


def test_it_is_a_layer_of_other_models(rng):
    backbone = small_conv((8, 8, 3), widths=(4, 8))
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(backbone(inputs)))
    model.compile("sgd", "mse")
    model.fit(_images(rng, 8, 8, 8, 3), np.ones((8, 2)), verbose=0)
    assert tuple(model.predict(_images(rng, 3, 8, 8, 3), verbose=0).shape) == (3, 2)


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 8, 8, 1), (2, 9, 8, 3)])
def test_wrong_images_are_named(shape):
    with pytest.raises(ValueError, match=r"`images`.*\(B, 8, 8, 3\)"):
        Backbone(_network())(np.zeros(shape, "float32"))


def test_wrong_networks_are_named():
    with pytest.raises(ValueError, match="`image_shape` must fit"):
        Backbone(_network(), image_shape=(16, 16, 3))
    open_size = keras.Input((None, None, 3))
    network = keras.Model(open_size, keras.layers.Conv2D(2, 3)(open_size))
    with pytest.raises(ValueError, match="`image_shape` must be"):
        Backbone(network)
    vectors = keras.Input((5,))
    with pytest.raises(ValueError, match="must take images"):
        Backbone(keras.Model(vectors, keras.layers.Dense(2)(vectors)))
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="must give a feature map"):
        Backbone(keras.Model(inputs, keras.layers.Reshape((8, 2, 4, 3))(inputs)))
    with pytest.raises(ValueError, match="`pooling` must be one of"):
        Backbone(_network(), pooling="max")


@pytest.mark.parametrize("name", ["ResNet-18", "RESNET18", "resnet_18"])
def test_names_are_forgiving(name):
    backbone = backbones.get(name, (32, 32, 3))
    assert backbone.name == "resnet18" and backbone.image_shape == (32, 32, 3)


def test_every_name_is_a_public_maker():
    assert set(backbones.NAMES) <= set(backbones.__all__)


def test_get_suggests_near_names_and_passes_models(rng):
    with pytest.raises(ValueError, match="Received: backbone='resnet19'. Did you mean 'resnet18'"):
        backbones.get("resnet19", (32, 32, 3))
    backbone = small_conv((8, 8, 3), widths=(4,))
    assert backbones.get(backbone) is backbone
    assert backbones.get(_network(), (8, 8, 3)).feature_dim == 6
    with pytest.raises(ValueError, match="`input_shape` must be that of the backbone"):
        backbones.get(backbone, (16, 16, 3))
