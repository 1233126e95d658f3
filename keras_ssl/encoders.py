"""Encoders from disk: a run folder, a `.keras` file or a SavedModel."""

import hashlib
import json
import os
import pathlib
import zipfile
from typing import Any

import keras

from keras_ssl.backbones import Backbone, adopt

BACKBONE = "backbone.keras"  # in a run folder: the network as training goes on with it
_SAVED = "encoder.keras"
_ENDPOINT = "serve"


def load_encoder(path: str | os.PathLike | keras.Model, *, allow_code: bool = False) -> Backbone:
    """The encoder that a run, a `.keras` file or a SavedModel holds, as a `Backbone`.

    What it gives can be called on images (uint8 or float in [0, 1]), trained further (`create(...,
    backbone=...)`), evaluated and exported. Of a run folder it is the network of the end of the
    run; a SavedModel is one layer, without inner stages, and needs TensorFlow as Keras' backend.

    Args:
        path: a run folder of `pretrain`, a `.keras` file of an image network (ours or any other
            without a classifier), or the folder of a SavedModel of `export_encoder`. A model passes
            through `backbones.adopt`.
        allow_code: whether a `.keras` file may bring code of its own (Lambda layers), which runs
            when the file is loaded: for files that you trust.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if there is no encoder at `path`, the file is damaged, of a version that this
            Keras cannot read, or holds code.
    """
    if isinstance(path, keras.Model):
        return adopt(getattr(path, "backbone", path))
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "`path` must be a run folder, a .keras file, a SavedModel or a Keras model. Received: "
            f"{type(path).__name__}."
        )
    path = pathlib.Path(path)
    if (path / "saved_model.pb").is_file():
        return _from_saved_model(path)
    if path.suffix == ".keras" and path.is_file():
        return _from_file(path, allow_code)
    if (path / "config.json").is_file():
        for name in (BACKBONE, _SAVED):
            if (path / name).is_file():
                return _from_file(path / name, allow_code)
        raise ValueError(
            f"The run in {path} has no encoder yet: it was stopped before its end. Repeat its "
            "command, which goes on from the last checkpoint."
        )
    found = (
        "a folder without a run's config.json or a saved_model.pb"
        if path.is_dir()
        else ("another file" if path.exists() else "nothing")
    )
    raise ValueError(
        "An encoder must be a run folder, a .keras file or the folder of a SavedModel. Received: "
        f"{path}, which is {found}. `keras-ssl pretrain` makes a run folder."
    )


def copy_encoder(backbone: Backbone, weights: bool = True) -> Backbone:
    """The same network, outside of any strategy; with new initial weights unless `weights`."""
    saved = saved_model_of(backbone)
    if saved is not None:  # Keras refuses to make its layer again from a config
        copy = _from_saved_model(pathlib.Path(saved.filepath))
    else:
        copy = type(backbone).from_config(backbone.get_config())
    if weights:
        copy.set_weights(backbone.get_weights())
    return copy


def checksum(network: keras.Model) -> bytes:
    """SHA-256 of the weights of `network` and their shapes; their order does not count."""
    sums = []
    for weight in network.weights:
        value = keras.ops.convert_to_numpy(weight)
        sums.append(hashlib.sha256(f"{value.shape} {value.dtype}".encode() + value.tobytes()))
    return hashlib.sha256(b"".join(sorted(each.digest() for each in sums))).digest()


def check_channels(encoder: Backbone, source: Any) -> None:
    """Raise unless the images of a `data.Source` have the channels that an encoder takes."""
    takes, has = encoder.image_shape[2], source.image_shape[2]
    if takes != has:
        raise ValueError(
            "Encoder and images must have the same number of channels. Received: an encoder for "
            f"{takes}, {source.name} with {has}. Convert the images, or take an encoder that was "
            "trained on such."
        )


def saved_model_of(backbone: Backbone) -> Any:
    """The layer that is a SavedModel, if the network is one; else None."""
    layers = backbone._flatten_layers()
    return next((x for x in layers if isinstance(x, keras.layers.TFSMLayer)), None)


def _from_file(path: pathlib.Path, allow_code: bool) -> Backbone:
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:  # whatever layers raise when they are made
        raise ValueError(_why_not(path, error)) from error
    return adopt(getattr(model, "backbone", model))


def _why_not(path: pathlib.Path, error: Exception) -> str:
    """Why a `.keras` file could not be loaded, in a sentence, and what to do."""
    first = str(error).strip().split("\n")[0]
    if "safe_mode" in str(error) or "unsafe" in str(error).lower():
        return (
            f"{path} brings code of its own (a Lambda layer), which could do anything once loaded. "
            "If you trust where it comes from: allow_code=True, in the shell --allow_code."
        )
    written = _written_with(path)
    if written is None:
        return f"{path} is no whole .keras file: {first} Write it anew, or take another."
    versions = ""
    if written.split(".")[:2] != keras.__version__.split(".")[:2]:
        versions = f" It was written with Keras {written}, and this is {keras.__version__}."
    return (
        f"{path} cannot be loaded: {first}{versions} Layers of your own must be registered with "
        "keras.saving.register_keras_serializable before."
    )


def _written_with(path: pathlib.Path) -> str | None:
    """The version of Keras that wrote a `.keras` file; None for a file that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None


def _from_saved_model(path: pathlib.Path) -> Backbone:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"A SavedModel is run by TensorFlow. Received: {path}, on the backend "
            f"{keras.backend.backend()}. Take the run folder or a .keras file."
        )
    try:
        layer, shape = _endpoints(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is no SavedModel of an encoder: {str(error).splitlines()[0]} It must have an "
            f"endpoint `{_ENDPOINT}` from images to features; `keras-ssl export` "
            "writes such."
        ) from error
    images = keras.Input(shape, dtype="float32", name="images")
    return Backbone(
        keras.Model(images, layer(images), name=f"{layer.name}_network"), name="encoder"
    )


def _endpoints(path: pathlib.Path) -> tuple[Any, tuple]:
    """The layer of a SavedModel, with training behaviour where it has it; shape of its images."""
    # Whatever the policy of the run: the endpoints take float32.
    named = {"name": "encoder", "dtype": "float32"}
    layer = keras.layers.TFSMLayer(str(path), call_endpoint=_ENDPOINT, **named)
    signatures = layer._reloaded_obj.signatures
    spec = next(iter(signatures[_ENDPOINT].structured_input_signature[1].values()))
    if "train" in signatures:
        layer = keras.layers.TFSMLayer(str(path), _ENDPOINT, "train", **named)
    return layer, tuple(spec.shape[1:])
