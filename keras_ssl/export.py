"""The encoder as a file for other programs: SavedModel, `.keras`, ONNX, LiteRT."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras

from keras_ssl.backbones import until
from keras_ssl.encoders import copy_encoder, saved_model_of
from keras_ssl.ops.images import to_unit_range

FORMATS = ("savedmodel", "keras", "onnx", "litert")
_ENDINGS = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}


def export_encoder(
    model, path, format: str | None = None, layer: str | None = None
) -> pathlib.Path:
    """Write the encoder of a method (or a `Backbone`) with its preprocessing inside.

    - `savedmodel`: needs TensorFlow alone to load. `tf.saved_model.load(path)` has the endpoints
      `serve` (pooled features), `feature_map` (where the backbone has one), `train` (pooled
      features with training behaviour: batch statistics, which it updates, and dropout) and
      `trainable_variables`, so that it can be fine-tuned; the endpoints take float32 images in [0,
      1], or uint8 images with `_uint8` after their name. The same names are signatures,
      `serving_default` being `serve`.
    - `keras`: a `.keras` file of core Keras layers (for ViT: of this library's layers too) from
      float images in [0, 1] to features.
    - `onnx`, `litert`: the same network through Keras' own exporters. ONNX needs the packages of
      the extra `onnx` (on JAX, jax2onnx); LiteRT, on the TensorFlow backend, needs none.

    Args:
        model: an `SSLModel` or a `Backbone`.
        path: what to write; replaced as a whole once the new one is complete.
        format: one of the above; by default that of the path's ending, `.keras`, `.onnx` or
            `.tflite`, and a SavedModel for all other paths.
        layer: name of the stage of the network to end with (see `backbones.stages`); by default the
            last.

    Returns:
        The path written.

    Raises:
        ValueError: if `format` is unknown, `path` has the ending of another, there is no such
            `layer`, or a SavedModel (as `load_encoder` reads it) should become a `.keras` file.
        ImportError: if a package that the format needs is missing; it says what to install.
    """
    path = pathlib.Path(path)
    format = _format(path, format)
    backbone = getattr(model, "backbone", model)
    if format == "keras" and saved_model_of(backbone) is not None:
        raise ValueError(
            "A SavedModel cannot become a .keras file, which holds layers. Received: "
            f"format='keras' for '{backbone.name}'. Take the run folder or a .keras file instead."
        )
    backbone = copy_encoder(until(backbone, layer) if layer else backbone)
    partial = path.with_name(f".partial-{path.name}")
    remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        if format == "savedmodel":
            _saved_model(backbone, partial)
        elif format == "keras":
            partial = partial.with_suffix(".keras")
            backbone.to_functional().save(partial)
        else:
            network = backbone.to_functional()
            network(keras.ops.zeros((1, *backbone.image_shape)))  # Keras exports what was called
            _through_keras(network, partial, format)
        remove(path)
        os.replace(partial, path)
    finally:
        remove(partial)
    return path


def _format(path, format):
    """The format that argument and ending agree on."""
    if format not in (None, *FORMATS):
        raise ValueError(f"`format` must be one of {FORMATS}. Received: format={format!r}.")
    by_ending = _ENDINGS.get(path.suffix.lower())
    if None not in (format, by_ending) and format != by_ending:
        raise ValueError(
            f"`format` must agree with the ending of `path`. Received: format={format!r} and "
            f"{path.name}, which is {by_ending!r}. Leave `format` out, or change the name."
        )
    return format or by_ending or "savedmodel"


def _through_keras(network, path, format):
    try:
        network.export(path, format=format, verbose=False)
    except ImportError as error:
        on_jax = keras.backend.backend() == "jax"
        package = "jax2onnx" if on_jax else "'keras-ssl[onnx]'"  # what ONNX needs; LiteRT nothing
        raise ImportError(
            f"`format` {format!r} needs a package that is not installed: {error}. "
            f"Run: pip install {package}"
        ) from error


def save_backbone(backbone, path):
    """Write a `Backbone` as it is, for this library: with map or tokens, and its own layers."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        copy_encoder(backbone).save(partial)
        os.replace(partial, path)
    finally:
        remove(partial)


def _saved_model(backbone, path):
    if keras.backend.backend() == "tensorflow":
        _write_saved_model(backbone, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "backbone.keras"
        backbone.save(file)
        # A SavedModel holds TensorFlow's graphs, which Keras on TensorFlow writes from the same
        # layers.
        result = subprocess.run(
            [sys.executable, "-m", "keras_ssl.export", str(file), str(path)],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(
                f"Writing the SavedModel through TensorFlow failed:\n{result.stderr[-2000:]}"
            )


def _write_saved_model(backbone, path):
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(backbone)

    def features(training):
        return lambda images: keras.ops.cast(
            backbone(to_unit_range(images), training=training), "float32"
        )

    def feature_map(images):
        return keras.ops.cast(
            backbone.feature_map(to_unit_range(images), training=False), "float32"
        )

    endpoints = {"serve": features(False), "train": features(True)}
    if backbone.kind != "vector":
        endpoints["feature_map"] = feature_map
    for name, function in endpoints.items():
        for suffix, dtype in (("", "float32"), ("_uint8", "uint8")):
            spec = tf.TensorSpec((None, *backbone.image_shape), dtype, name="images")
            archive.add_endpoint(name + suffix, function, input_signature=[spec])
    archive.write_out(str(path), verbose=False)


def remove(path):
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    import keras_ssl.backbones  # noqa: F401  (registers the layers that the file names)

    _write_saved_model(keras.models.load_model(sys.argv[1]), pathlib.Path(sys.argv[2]))
