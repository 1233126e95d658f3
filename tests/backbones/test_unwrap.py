"""Networks are taken out of backbones whole, for the models of their own libraries."""

import warnings

import keras
import numpy as np
import pytest
import toys

import keras_ssl
from keras_ssl import backbones
from keras_ssl.backbones import adopt, unwrap
from keras_ssl.encoders import BACKBONE, load_encoder
from keras_ssl.export import save_backbone

SMALL, LARGE = (32, 32, 3), (64, 64, 3)
SPECS = {
    "keras_cv": "keras_cv:DenseNetBackbone(stackwise_num_repeats=[1, 1, 1, 1], growth_rate=4, "
    "include_rescaling=True)",
    "keras_hub": "keras_hub:DenseNetBackbone(stackwise_num_repeats=[1, 1, 1, 1], growth_rate=4)",
}


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages of theirs that are old
        return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module", params=SPECS)
def run(request, tmp_path_factory):
    """The library, a backbone of it, and a run folder that holds it."""
    module, folder = library(request.param), tmp_path_factory.mktemp(request.param)
    backbone = backbones.get(SPECS[request.param], SMALL)
    backbone(toys.images(8, SMALL), training=True)  # moves the statistics
    save_backbone(backbone, folder / BACKBONE)
    keras_ssl.export_encoder(backbone, folder / "encoder.keras")
    (folder / "config.json").write_text("{}")
    return module, backbone, folder


def check_weights(network, backbone):
    assert len(network.weights) == len(backbone.weights) > 10
    for ours, theirs in zip(network.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=theirs.path)


@pytest.mark.parametrize("file", ["", "encoder.keras"])
def test_the_librarys_own_object_comes_back_with_its_weights(run, file):
    module, backbone, folder = run
    network, prepare = unwrap(load_encoder(folder / file))
    assert isinstance(network, module.models.Backbone) and network.input_shape[1:] == SMALL
    check_weights(network, backbone)
    pixels = toys.images(2, SMALL)
    for images in (pixels, pixels / np.float32(255)):
        features = network(prepare(images))
        np.testing.assert_allclose(features, backbone.feature_map(pixels), atol=1e-5)


@pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`")  # which KerasCV knows
def test_classifier_and_detector_have_the_trained_weights(run):
    module, backbone, folder = run
    encoder = load_encoder(folder)
    network, prepare = unwrap(encoder)
    classifier = module.models.ImageClassifier(network, num_classes=2)
    assert classifier.backbone is network
    check_weights(classifier.backbone, backbone)
    assert classifier(prepare(toys.images(2, SMALL))).shape == (2, 2)

    network, prepare = unwrap(encoder, LARGE)
    options = {"num_classes": 2, "bounding_box_format": "xyxy"}
    if module.__name__ == "keras_cv":
        detector = module.models.RetinaNet(network, **options)
        inside = detector.backbone
    else:
        pyramid = module.models.RetinaNetBackbone(network, 3, 5, use_p5=False, image_shape=LARGE)
        detector = module.models.RetinaNetObjectDetector(pyramid, **options)
        inside = detector.backbone.image_encoder
    assert inside is network
    check_weights(inside, backbone)
    found = detector(prepare(toys.images(2, LARGE)))
    assert all(np.isfinite(np.asarray(part)).all() for part in found.values())


def test_networks_of_kerass_own_layers():
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="only")(images)
    network = keras.Model(images, x, name="own")
    backbone = adopt(network, preprocessing="caffe")
    found, prepare = unwrap(backbone)
    assert found is network
    pixels = toys.images(2)
    expected = pixels[..., ::-1] - np.array((103.939, 116.779, 123.68), "float32")
    np.testing.assert_allclose(prepare(pixels), expected, atol=1e-3)

    found, prepare = unwrap(adopt(backbone.to_functional()))
    assert len(found.output_shape) == 4  # what pools lies behind it
    np.testing.assert_allclose(found(prepare(pixels)), network(expected), atol=1e-3)

    for shape in ((16, 12, 3), (None, None, 3)):
        copy, _ = unwrap(backbone, shape)
        assert copy.input_shape[1:] == shape
        copy.get_layer("only").kernel.assign_add(keras.ops.ones((3, 3, 3, 4)))
        larger = toys.images(2, (16, 12, 3), dtype="float32")
        assert copy(larger).shape == (2, 16, 12, 4)
    np.testing.assert_allclose(found(prepare(pixels)), network(expected), atol=1e-3)


def test_our_own_networks_lose_scaling_and_pooling():
    backbone = backbones.small_conv((16, 16, 3), widths=(4, 8))
    network, prepare = unwrap(backbone)
    assert network is backbone.network
    images = toys.images(2, (16, 16, 3))
    np.testing.assert_allclose(network(prepare(images)), backbone.feature_map(images), atol=1e-6)
    larger, _ = unwrap(backbone, (24, 24, 3))
    assert larger(np.zeros((1, 24, 24, 3), "float32")).shape[-1] == 8


def test_a_size_that_the_weights_do_not_fit_is_refused():
    backbone = backbones.vit(8, 1, 2, (8, 8, 3))
    with pytest.raises(ValueError, match=r"`image_shape` must be.*Received.*\(16, 16, 3\)"):
        unwrap(backbone, (16, 16, 3))
