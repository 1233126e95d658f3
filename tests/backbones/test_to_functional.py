import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_ssl import backbones
from keras_ssl.backbones import Backbone


def _perturb(backbone):
    """Weights and moving statistics away from where they start."""
    rng = np.random.default_rng(1)
    weights = [w + 0.1 * rng.uniform(size=w.shape).astype(w.dtype) for w in backbone.get_weights()]
    backbone.set_weights(weights)
    return backbone


MAKERS = {
    "resnet18": lambda: backbones.resnet18((16, 16, 3), mean=(0.4, 0.5, 0.6), std=0.3),
    "small_conv": lambda: backbones.small_conv((16, 24, 3), widths=(8, 16)),
    "vit": lambda: backbones.vit_tiny((16, 24, 3)),
    "vit_avg": lambda: backbones.vit_tiny((16, 16, 3), pooling="avg", mean=None, std=None),
    "caffe": lambda: backbones.adopt(
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]), "caffe"
    ),
}


def _modules(model):
    for layer in model.layers:
        yield type(layer).__module__
        if isinstance(layer, keras.Model):
            yield from _modules(layer)


@pytest.fixture(params=MAKERS, scope="module")
def backbone(request):
    return _perturb(MAKERS[request.param]())


def test_same_features_and_map_from_layers_of_keras_itself(backbone):
    copy = backbone.to_functional(feature_map=True)
    assert {name.split(".")[0] for name in _modules(copy)} == {"keras"}
    images = np.random.default_rng(0).uniform(size=(3, *backbone.image_shape)).astype("float32")
    outputs = copy(images)
    expected = np.asarray(backbone(images))
    assert np.abs(outputs["features"] - expected).max() < 1e-6 * np.abs(expected).max()
    fmap = np.asarray(backbone.feature_map(images))
    assert outputs["feature_map"].shape == fmap.shape
    assert np.abs(outputs["feature_map"] - fmap).max() < 1e-6 * np.abs(fmap).max()


def test_nothing_is_shared():
    backbone = _perturb(MAKERS["small_conv"]())
    images = np.random.default_rng(0).uniform(size=(2, 16, 24, 3)).astype("float32")
    copy = backbone.to_functional()
    before = np.asarray(copy(images))
    backbone.set_weights([0 * w for w in backbone.get_weights()])
    np.testing.assert_array_equal(copy(images), before)


def test_training_behaviour_goes_along():
    backbone = backbones.small_conv((8, 8, 3), widths=(4, 8))
    backbone.network.get_layer("stage1_conv").trainable = False
    images = np.random.default_rng(0).uniform(size=(8, 8, 8, 3)).astype("float32")
    copy = backbone.to_functional()
    np.testing.assert_allclose(
        copy(images, training=True), backbone(images, training=True), rtol=1e-4, atol=1e-5
    )
    for a, b in zip(copy.get_weights(), backbone.get_weights()):  # moving statistics as well
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert len(copy.trainable_variables) == len(backbone.trainable_variables) == 5


def test_output_is_float32_under_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = backbones.small_conv((8, 8, 3), widths=(4, 8))
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype("float32")
    outputs = backbone.to_functional()(images)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_array_equal(outputs, keras.ops.cast(backbone(images), "float32"))


def test_vectors_have_no_map():
    inputs = keras.Input((8, 8, 3))
    backbone = Backbone(keras.Model(inputs, keras.layers.Flatten()(inputs)))
    assert tuple(backbone.to_functional().output_shape) == (None, 192)
    with pytest.raises(ValueError, match="no feature map"):
        backbone.to_functional(feature_map=True)


def test_file_loads_without_the_library(tmp_path):
    """One process for all, as starting Keras takes seconds."""
    for name in ("small_conv", "vit", "caffe"):
        backbone = _perturb(MAKERS[name]())
        shape = (3, *backbone.image_shape)
        images = np.random.default_rng(0).uniform(size=shape).astype("float32")
        backbone.to_functional().save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", images=images, features=backbone(images))
    code = """
        import pathlib, sys
        import keras, numpy as np
        files = sorted(pathlib.Path(sys.argv[1]).glob("*.keras"))
        assert files
        for file in files:
            data = np.load(file.with_suffix(".npz"))
            model = keras.saving.load_model(file)
            features = np.asarray(model(data["images"]))
            assert np.abs(features - data["features"]).max() < 1e-6 * np.abs(features).max(), file
        assert not any(name.startswith("keras_ssl") for name in sys.modules)
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
