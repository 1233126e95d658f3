"""Backbones of other libraries by name: keras.applications, KerasCV, KerasHub."""

import ast
import importlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.ops.names import near

LIBRARIES = ("keras_applications", "keras_cv", "keras_hub")
_FORM = (
    "LIBRARY:NAME or LIBRARY:NAME(argument=value, ...), where LIBRARY is one of "
    f"{', '.join(LIBRARIES)}"
)
DEFAULT_SHAPE = (224, 224, 3)


def from_library(spec: str, input_shape: Sequence[int] | None = None) -> Backbone:
    """A backbone of another library from a line of text, with the preprocessing it needs.

    - `keras_applications:EfficientNetV2B0`: the function of that name, without its classifier, with
      random weights; `(weights="imagenet")` downloads those of ImageNet.
    - `keras_cv:ResNetV2Backbone(stackwise_filters=[64, 128], ...)`: the class of that name. Those
      named after a size, such as `ResNet18V2Backbone`, fetch their settings from Kaggle.
    - `keras_hub:DINOV2Backbone(patch_size=14, ...)`: the class of that name, with random weights.
    - `keras_hub:dinov2_small`: the preset of that name, which KerasHub downloads, or a folder of
      its `save_to_preset`, with its weights (`(load_weights=False)` without) and the scaling of its
      image converter.

    Args:
        spec: such a text; values as in Python.
        input_shape: (H, W, C) of the images; by default (224, 224, 3), or what the network says.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if the text has another form, there is no such network, it refuses an argument
            or cannot be downloaded.
        ImportError: if the library is not installed; it says what to install.
    """
    library, name, arguments = _parse(spec)
    shape = tuple(input_shape or DEFAULT_SHAPE)
    module = keras.applications if library == "keras_applications" else _models(library)
    preset = library == "keras_hub" and not inspect.isclass(getattr(module, name, None))
    maker = None if preset else _named(module, name, spec)
    try:
        if preset:
            return _from_preset(module, name, arguments, input_shape)
        if library == "keras_applications":
            settings = {"include_top": False, "weights": None, "input_shape": shape, **arguments}
            network = maker(**settings)
            known = None not in network.input_shape[1:]  # or the text leaves the size open
            return adopt(network, image_shape=None if known else shape)
        return adopt(maker(**_fitting(maker, shape) | arguments), image_shape=input_shape)
    except ImportError:
        raise
    except Exception as error:  # whatever libraries raise when they make or fetch a network
        raise ValueError(
            f"`backbone` cannot be made. Received: backbone={spec!r}, images of {shape}. "
            f"{' '.join(str(error).split())[:500]}"
        ) from error


def is_trained(spec: Any) -> bool:
    """Whether a backbone, given as text, comes with weights that are trained already."""
    if not isinstance(spec, str) or ":" not in spec:
        return False
    library, name, arguments = _parse(spec)
    if library != "keras_hub":
        return arguments.get("weights") is not None
    preset = not inspect.isclass(getattr(_models(library), name, None))
    return preset and arguments.get("load_weights", True)


def _parse(spec: str) -> tuple[str, str, dict]:
    """Library, name and arguments of a text."""
    library, _, rest = spec.partition(":")
    library = library.strip().lower().replace("-", "_").replace(".", "_")
    name, bracket, _ = rest.partition("(")
    try:
        if library not in LIBRARIES or not name.strip():
            raise ValueError
        if not bracket:
            return library, name.strip(), {}
        call = ast.parse("f" + rest[len(name) :].strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return library, name.strip(), {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"`backbone` of a library must read {_FORM}. Received: backbone={spec!r}."
            + near(library, LIBRARIES)
        ) from error


def _models(library: str) -> Any:
    """The library's module of models."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages of theirs that are old
            return importlib.import_module(f"{library}.models")
    except ImportError as error:
        package = "'keras-ssl[hub]'" if library == "keras_hub" else library.replace("_", "-")
        raise ImportError(
            f"{library} is not installed: {error}. Run: pip install {package}"
        ) from error


def _named(module: Any, name: str, spec: str) -> Callable:
    known = [n for n in dir(module) if n[:1].isupper()]
    if name not in known:
        raise ValueError(
            f"`backbone` must name a model of {module.__name__}. Received: backbone={spec!r}."
            + near(name, known)
        )
    return getattr(module, name)


def _fitting(maker: Callable, shape: tuple) -> dict:
    """What most backbones want to know, by the names that this one has for it."""
    known = inspect.signature(maker.__init__).parameters
    offered = {"input_shape": shape, "image_shape": shape, "include_rescaling": False}
    return {name: value for name, value in offered.items() if name in known}


def _from_preset(module: Any, name: str, arguments: dict, input_shape: Any) -> Backbone:
    """A backbone of KerasHub's presets, or of a folder of that form."""
    given = {} if input_shape is None else {"image_shape": tuple(input_shape)}
    try:
        model = module.Backbone.from_preset(name, **given, **arguments)
    except (TypeError, ValueError):  # most have no `image_shape`
        if not given:
            raise
        model = module.Backbone.from_preset(name, **arguments)
    return adopt(model, preprocessing=_scaling(name), image_shape=input_shape)


def _scaling(preset: str) -> Any:
    """The scaling of a preset's image converter, for images in [0, 1]."""
    layers = importlib.import_module("keras_hub.layers")
    try:
        converter = layers.ImageConverter.from_preset(preset)
    except (ValueError, FileNotFoundError):  # a preset without one
        return "auto"
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    pixels = [255.0 * s for s in scale] if isinstance(scale, list | tuple) else 255.0 * scale
    return keras.layers.Rescaling(pixels, offset, dtype="float32", name="scaling")
