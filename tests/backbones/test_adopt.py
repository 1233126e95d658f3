import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_ssl.backbones import Backbone, adopt, small_conv

applications = keras.applications


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _check(backbone, rng, tmp_path, map_shape, images=None):
    """What every adopted network has to do; returns features."""
    if images is None:
        images = rng.uniform(size=(2, *backbone.image_shape)).astype("float32")
    features = np.asarray(backbone(images))
    assert features.shape == (2, backbone.feature_dim) and np.isfinite(features).all()
    assert tuple(backbone.feature_map(images).shape) == (2, *map_shape)
    backbone.save(tmp_path / "adopted.keras")
    again = keras.saving.load_model(tmp_path / "adopted.keras")
    np.testing.assert_array_equal(again(images), features)
    np.testing.assert_allclose(backbone.to_functional()(images), features, rtol=1e-6, atol=1e-6)
    return features


def _small(inputs, *after):
    x = inputs
    for layer in after:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("maker", "preprocess", "map_shape"),
    [
        (applications.MobileNetV2, applications.mobilenet_v2.preprocess_input, (1, 1, 1280)),
        (applications.VGG16, applications.vgg16.preprocess_input, (1, 1, 512)),
    ],
)
def test_keras_applications_get_their_own_preprocessing(
    maker, preprocess, map_shape, rng, tmp_path
):
    model = maker(include_top=False, weights=None, input_shape=(32, 32, 3))
    images = rng.uniform(size=(2, 32, 32, 3)).astype("float32")
    features = _check(adopt(model), rng, tmp_path, map_shape, images)
    expected = np.mean(model(preprocess(255 * images)), axis=(1, 2))
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_densenet_is_normalised_by_imagenets_statistics(rng):
    model = _small(keras.Input((8, 8, 3)), layers.Activation("linear"))
    model.name = "densenet121"
    images = rng.uniform(size=(2, 8, 8, 3)).astype("float32")
    expected = applications.densenet.preprocess_input(255 * images)
    np.testing.assert_allclose(adopt(model).feature_map(images), expected, rtol=1e-4, atol=1e-5)


def test_pooled_application_gives_vectors(rng):
    model = applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    backbone = adopt(model)
    assert backbone.feature_dim == 1280 and backbone.kind == "vector"
    with pytest.raises(ValueError, match="no feature map"):
        backbone.feature_map(np.zeros((1, 32, 32, 3), "float32"))


@pytest.mark.parametrize(
    ("first", "factor"),
    [
        (lambda: layers.Rescaling(1 / 255), 255.0),
        (lambda: layers.Rescaling(1 / 127.5, -1), 255.0),
        (lambda: layers.Normalization(mean=[123.0] * 3, variance=[3000.0] * 3), 255.0),
        (lambda: layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3), 1.0),
        (lambda: layers.Rescaling(2.0, -1), 1.0),
        (lambda: layers.Conv2D(3, 1), 1.0),
    ],
)
def test_auto_finds_out_the_range_that_the_first_layer_is_made_for(first, factor, rng):
    model = _small(keras.Input((8, 8, 3)), first(), layers.Conv2D(4, 3))
    images = rng.uniform(size=(2, 8, 8, 3)).astype("float32")
    for wrapped in (model, keras.Sequential([keras.Input((8, 8, 3)), model])):
        found = adopt(wrapped).feature_map(images)
        np.testing.assert_allclose(found, model(factor * images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("unit", [0.0, 0.5, 1.0]),
        ("pixels", [0.0, 127.5, 255.0]),
        ("symmetric", [-1.0, 0.0, 1.0]),
        ("imagenet", [-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("caffe", [255 - 103.939, 127.5 - 116.779, -123.68]),
        (layers.Rescaling(3.0), [0.0, 1.5, 3.0]),
    ],
)
def test_preprocessing_by_name(kind, expected):
    model = _small(keras.Input((1, 1, 3)), layers.Activation("linear"))
    backbone = adopt(model, preprocessing=kind)
    found = backbone(np.array([[[[0.0, 0.5, 1.0]]]], "float32"))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-4)


def test_kinds_of_models(rng, tmp_path):
    size = (8, 8, 3)
    sequential = keras.Sequential([keras.Input(size), layers.Conv2D(4, 3)])
    _check(adopt(sequential), rng, tmp_path, (6, 6, 4))
    unbuilt = keras.Sequential([layers.Conv2D(4, 3)])
    _check(adopt(unbuilt, image_shape=size), rng, tmp_path, (6, 6, 4))
    inputs = keras.Input(size, name="images")
    named = keras.Model({"images": inputs}, {"features": layers.Conv2D(4, 3)(inputs)})
    _check(adopt(named), rng, tmp_path, (6, 6, 4))
    listed = keras.Model([inputs], [layers.Conv2D(4, 3)(inputs)])
    _check(adopt(listed), rng, tmp_path, (6, 6, 4))
    open_size = _small(keras.Input((None, None, 3)), layers.Conv2D(4, 3))
    backbone = adopt(open_size, image_shape=size)
    _check(backbone, rng, tmp_path, (6, 6, 4))
    assert tuple(backbone(np.zeros((1, 5, 6, 3), "float32")).shape) == (1, 4)


@keras.saving.register_keras_serializable("keras_ssl_tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)

    def call(self, images, training=None):
        return self.conv(images)

    def get_config(self):
        return super().get_config()


def test_subclassed_models_need_an_image_shape(rng, tmp_path):
    _check(adopt(Subclassed(), image_shape=(8, 8, 3)), rng, tmp_path, (6, 6, 4))
    with pytest.raises(ValueError, match="no input shape yet. Pass `image_shape`"):
        adopt(Subclassed())


def test_weights_are_shared_with_the_adopted_model(rng):
    model = _small(keras.Input((8, 8, 3)), layers.Conv2D(4, 3))
    backbone = adopt(model)
    images = rng.uniform(size=(1, 8, 8, 3)).astype("float32")
    before = np.asarray(backbone(images))
    model.set_weights([2 * w for w in model.get_weights()])
    np.testing.assert_allclose(backbone(images), 2 * before, rtol=1e-5, atol=1e-6)
    assert len(backbone.trainable_variables) == 2


def test_a_backbone_passes_unchanged():
    backbone = small_conv((8, 8, 3), widths=(4,))
    assert adopt(backbone) is backbone
    with pytest.raises(ValueError, match="takes no further arguments"):
        adopt(backbone, pooling="avg")


def _two_inputs():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    return keras.Model([a, b], layers.Add()([a, b]))


def _two_outputs(kind):
    x = keras.Input((8, 8, 3))
    outputs = [layers.Conv2D(2, 3, name="p3")(x), layers.Conv2D(2, 5, name="p4")(x)]
    return keras.Model(x, {"P3": outputs[0], "P4": outputs[1]} if kind is dict else outputs)


CLASSIFIERS = [
    lambda: applications.MobileNetV2(weights=None, input_shape=(32, 32, 3)),
    lambda: applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classifier_activation=None
    ),
    lambda: _small(keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3), layers.Softmax()),
    lambda: keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            _small(keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3, "softmax")),
        ]
    ),
]


@pytest.mark.parametrize("make", CLASSIFIERS)
def test_classifiers_are_refused(make):
    with pytest.raises(ValueError, match="the classifier.*Use include_top=False"):
        adopt(make())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_two_inputs, "must have one input.*'a', 'b'"),
        (lambda: _two_outputs(dict), "must have one output.*'P3', 'P4'"),
        (lambda: _two_outputs(list), "must have one output.*with 2"),
        (lambda: keras.Sequential([layers.Conv2D(4, 3)]), "no input shape yet"),
        (lambda: _small(keras.Input((5,)), layers.Dense(2)), "must take floating-point images"),
        (lambda: _small(keras.Input((8, 8, 3)), layers.Reshape((24, 8))), "Received: 24 tokens"),
        (lambda: _small(keras.Input((None, None, 3)), layers.Conv2D(2, 3)), "Pass `image_shape`"),
        (lambda: applications.MobileNetV2, "must be a keras.Model. Received: function"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        adopt(make())


def test_preprocessing_errors():
    model = _small(keras.Input((8, 8, 1)), layers.Conv2D(2, 3))
    with pytest.raises(ValueError, match="`preprocessing` must be one of"):
        adopt(model, preprocessing="torch")
    with pytest.raises(ValueError, match="is for 3 channels"):
        adopt(model, preprocessing="imagenet")


def test_keras_cv_backbone(rng, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_cv = pytest.importorskip("keras_cv")
        model = keras_cv.models.ResNetV2Backbone(
            stackwise_filters=[16, 32],
            stackwise_blocks=[2, 2],
            stackwise_strides=[1, 2],
            include_rescaling=True,
            input_shape=(32, 32, 3),
        )
    images = rng.uniform(size=(2, 32, 32, 3)).astype("float32")
    features = _check(adopt(model), rng, tmp_path, (4, 4, 128), images)
    expected = np.mean(model(255 * images), axis=(1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def hub():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras_hub").models


def _hub_resnet(hub):
    return hub.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 32],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    )


def test_keras_hub_resnet(hub, rng, tmp_path):
    backbone = adopt(_hub_resnet(hub), image_shape=(32, 32, 3))
    _check(backbone, rng, tmp_path, (4, 4, 32))


def test_keras_hub_classifier_is_refused(hub):
    model = hub.ResNetImageClassifier(_hub_resnet(hub), num_classes=3)
    with pytest.raises(ValueError, match="the classifier"):
        adopt(model, image_shape=(32, 32, 3))


@pytest.mark.parametrize("registers", [0, 4])
def test_keras_hub_dinov2(hub, rng, tmp_path, registers):
    model = hub.DINOV2Backbone(
        patch_size=14,
        num_layers=1,
        hidden_dim=32,
        num_heads=2,
        intermediate_dim=64,
        num_register_tokens=registers,
        image_shape=(56, 56, 3),
    )
    backbone = adopt(model, preprocessing="imagenet")
    assert isinstance(backbone, Backbone) and backbone.num_prefix_tokens == 1 + registers
    images = rng.uniform(size=(2, 56, 56, 3)).astype("float32")
    features = _check(backbone, rng, tmp_path, (4, 4, 32), images)
    std = (images - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(features, model({"images": std})[:, 0], rtol=1e-3, atol=1e-4)
