"""Backbones of other libraries by name, with the preprocessing that they need."""

import sys
import warnings
from unittest import mock

import keras
import numpy as np
import pytest
import toys

import keras_ssl
from keras_ssl import backbones
from keras_ssl.backbones import from_library

IMAGES = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
DINO = (
    "keras_hub:DINOV2Backbone(patch_size=8, num_layers=1, hidden_dim=16, num_heads=2, "
    "intermediate_dim=32)"
)


def hub():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras_hub")


def test_keras_applications():
    backbone = backbones.get("keras_applications:MobileNetV3Small(alpha=0.75)", (32, 32, 3))
    assert backbone.image_shape == (32, 32, 3) and backbone.kind == "map"
    assert backbone.preprocessing.scale == 255.0  # it rescales pixels by itself
    assert np.asarray(backbone(IMAGES)).shape == (2, backbone.feature_dim)


@pytest.mark.parametrize("method", ["dino", "simdino"])
def test_keras_applications_are_trained_on(method):
    """Teacher and student begin with the weights that came; the teacher follows at a distance."""
    theirs = backbones.get("keras_applications:MobileNetV3Small(alpha=0.75)", (32, 32, 3))
    pixels = toys.images(8, (32, 32, 3))
    start = [np.array(w) for w in theirs.get_weights()]
    model = keras_ssl.create(method, (32, 32, 3), theirs, momentum=0.9)
    model.run_eagerly = True
    for own, came in zip(model.teacher_backbone.get_weights(), start):
        np.testing.assert_array_equal(own, came)
    model.fit(pixels, batch_size=8, epochs=1, verbose=0, views=keras_ssl.views.simclr(32))
    moved = [
        max(np.abs(w - s).max() for w, s in zip(net.get_weights(), start) if w.ndim == 4)
        for net in (model.backbone, model.teacher_backbone)
    ]
    assert moved[0] > moved[1] > 0


def test_an_open_size_is_left_open():
    spec = "keras_applications:MobileNetV3Small(alpha=0.75, input_shape=(None, None, 3))"
    backbone = backbones.get(spec, (64, 64, 3))
    assert backbone.image_shape == (64, 64, 3) and backbone.takes_any_size
    assert backbone(IMAGES).shape == (2, backbone.feature_dim)
    assert not backbones.get("keras_applications:MobileNetV3Small", (64, 64, 3)).takes_any_size
    # A size in the text is the network's, also where no images say one.
    own = from_library("keras_applications:MobileNetV3Small(input_shape=(64, 64, 3))")
    assert own.image_shape == (64, 64, 3)


def test_keras_cv():
    pytest.importorskip("keras_cv")
    spec = (
        "keras-cv:ResNetV2Backbone(stackwise_filters=[8, 16], stackwise_blocks=[2, 2], "
        "stackwise_strides=[1, 2])"
    )
    backbone = from_library(spec, (32, 32, 3))
    assert backbone.preprocessing is None and backbone.kind == "map"
    rescaled = from_library(spec[:-1] + ", include_rescaling=True)", (32, 32, 3))
    assert rescaled.preprocessing.scale == 255.0


def test_keras_hub_class_takes_the_images_shape():
    hub()
    backbone = backbones.get(DINO, (32, 32, 3))
    assert backbone.image_shape == (32, 32, 3) and backbone.num_prefix_tokens == 1
    assert backbone(IMAGES).shape == (2, 16)


def test_a_preset_brings_weights_and_scaling(tmp_path):
    keras_hub = hub()
    made = backbones.get(DINO, (32, 32, 3))
    (model,) = [x for x in made._flatten_layers() if isinstance(x, keras_hub.models.Backbone)]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    converter = keras_hub.layers.DINOV2ImageConverter(
        image_size=(32, 32),
        scale=[1 / 255 / s for s in std],
        offset=[-m / s for m, s in zip(mean, std)],
    )
    model.save_to_preset(str(tmp_path))
    converter.save_to_preset(str(tmp_path))
    found = backbones.get(f"keras_hub:{tmp_path}", (32, 32, 3))
    expected = model({"images": (IMAGES - np.float32(mean)) / np.float32(std)})[:, 0]
    np.testing.assert_allclose(found(IMAGES), expected, atol=1e-4)
    network, prepare = backbones.unwrap(found)
    assert isinstance(network, keras_hub.models.DINOV2Backbone)
    np.testing.assert_allclose(network({"images": prepare(IMAGES)})[:, 0], expected, atol=1e-4)
    fresh = from_library(f"keras_hub:{tmp_path}(load_weights=False)", (32, 32, 3))
    assert not np.allclose(fresh(IMAGES), expected, atol=1e-2)


def test_which_texts_bring_trained_weights():
    """Their runs are gentle by default."""
    hub()
    trained = ["keras_hub:dinov2_small", 'keras_applications:MobileNetV2(weights="imagenet")']
    assert all(map(backbones.is_trained, trained))
    fresh = ["keras_hub:dinov2_small(load_weights=False)", "keras_applications:MobileNetV2", DINO]
    assert not any(map(backbones.is_trained, [*fresh, "resnet18", None, toys.tiny_backbone()]))


def test_nothing_is_downloaded_that_was_not_asked_for():
    with mock.patch.object(keras.utils, "get_file", side_effect=AssertionError):
        backbones.get("keras_applications:MobileNetV2", (32, 32, 3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("keras_application:ResNet50", "must read LIBRARY:NAME.*Did you mean 'keras_applications'"),
        ("keras_applications:", "must read LIBRARY:NAME"),
        ("keras_applications:ResNet50(3)", "must read LIBRARY:NAME"),
        ("keras_applications:ResNet50(weights=open('x'))", "must read LIBRARY:NAME"),
        ("keras_applications:Resnet50", "must name a model of keras.applications.*'ResNet50'"),
        ("keras_applications:MobileNetV2(depth=3)", "cannot be made.*depth"),
        ("keras_applications:InceptionV3", r"cannot be made.*\(32, 32, 3\).*75"),
    ],
)
def test_texts_that_name_no_network_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        backbones.get(spec, (32, 32, 3))


def test_a_library_that_is_absent_is_named():
    with mock.patch.dict(sys.modules, {"keras_hub": None, "keras_hub.models": None}):
        with pytest.raises(ImportError, match=r"pip install 'keras-ssl\[hub\]'"):
            from_library("keras_hub:dinov2_small")
