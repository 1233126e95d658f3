"""The exported encoder: the same features elsewhere, and a start for fine-tuning."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import images, ready_batches, tiny_backbone

import keras_ssl

FRESH = """
import sys
sys.modules["keras_ssl"] = None  # any import of the library fails from here on
import numpy as np, tensorflow as tf
pixels, expected, maps = (np.load(sys.argv[2])[k] for k in ("pixels", "expected", "maps"))
encoder = tf.saved_model.load(sys.argv[1])
unit = pixels.astype("float32") / 255
def close(a, b):
    assert np.abs(np.asarray(a) - b).max() < 1e-5, np.abs(np.asarray(a) - b).max()
close(encoder.serve(unit), expected)
close(encoder.serve_uint8(pixels), expected)
close(encoder.feature_map(unit), maps)
close(encoder.signatures["serving_default"](images=tf.constant(unit))["output_0"], expected)
names = {"serving_default", "serve_uint8", "feature_map", "feature_map_uint8"}
assert set(encoder.signatures) >= names
head = tf.Variable(tf.random.normal((expected.shape[1], 2), seed=0))
variables = [*encoder.trainable_variables, head]
before = [v.numpy() for v in encoder.variables]
def loss():
    logits, classes = encoder.train(unit) @ head, tf.constant([0, 1] * 4)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))
with tf.GradientTape() as tape:
    start = loss()
gradients = tape.gradient(start, variables)
assert all(g is not None for g in gradients) and len(variables) > 3
for v, g in zip(variables, gradients):
    v.assign_sub(0.1 * g)
changed = [bool((v.numpy() != b).any()) for v, b in zip(encoder.variables, before)]
assert all(changed), changed  # weights by the step, moving statistics by the training endpoint
assert loss() < start
print("good")
"""


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = keras_ssl.SimCLR(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(ready_batches(16, 16), epochs=2, verbose=0)
    return model


def test_savedmodel_in_a_fresh_process(tmp_path, trained):
    pixels = images(8)
    maps = trained.backbone.feature_map(pixels.astype("float32") / 255, training=False)
    np.savez(tmp_path / "data.npz", pixels=pixels, expected=trained.encode(pixels), maps=maps)
    assert trained.export_encoder(tmp_path / "encoder") == tmp_path / "encoder"
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "encoder"), str(tmp_path / "data.npz")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.stdout.strip().endswith("good"), result.stderr[-3000:]


def test_keras_file_is_of_core_layers(tmp_path, trained):
    file = trained.export_encoder(tmp_path / "encoder.keras", format="keras")
    loaded = keras.models.load_model(file)
    assert all(
        type(layer).__module__.startswith("keras.")
        for layer in loaded._flatten_layers(include_self=False)
    )
    unit = images(8, dtype="float32")
    np.testing.assert_allclose(loaded(unit), trained.encode(unit), atol=1e-5)


def test_exports_replace_and_leave_nothing_behind(tmp_path, trained):
    for _ in range(2):
        trained.export_encoder(tmp_path / "encoder")
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert(tmp_path, trained):
    file = trained.export_encoder(tmp_path / "encoder.tflite", format="litert")
    interpreter = tf.lite.Interpreter(str(file))
    unit = images(8, dtype="float32")
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, unit.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, unit)
    interpreter.invoke()
    features = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(features, trained.encode(unit), atol=1e-5)


def test_onnx(tmp_path, trained):
    pytest.importorskip("tf2onnx", reason="the package tf2onnx is absent (extra `onnx`)")
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is absent")
    file = trained.export_encoder(tmp_path / "encoder.onnx", format="onnx")
    session = runtime.InferenceSession(str(file))
    unit = images(8, dtype="float32")
    features = session.run(None, {session.get_inputs()[0].name: unit})[0]
    np.testing.assert_allclose(features, trained.encode(unit), atol=1e-5)


def test_unknown_format_is_named(tmp_path, trained):
    with pytest.raises(ValueError, match="'torch'"):
        trained.export_encoder(tmp_path / "x", format="torch")
