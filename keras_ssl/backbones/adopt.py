"""Any Keras model as a backbone: keras.applications, KerasCV, KerasHub, your own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones.backbone import Backbone, normalization

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSING = ("auto", "unit", "pixels", "symmetric", "imagenet", "caffe")

# What keras.applications' weights expect, by the names that it gives its models.
_APPLICATIONS = {
    "caffe": r"vgg1[69]|resnet(50|101|152)",
    "symmetric": r"resnet(50|101|152)v2|inception_v3|inception_resnet_v2|xception|nasnet.*"
    r"|mobilenet(v2)?_[\d.]+_\w+",
    "imagenet": r"densenet\d+",
}
# Entries of a dict of outputs that hold features, best first.
_OUTPUT_KEYS = (
    "feature_map",
    "features",
    "last_hidden_state",
    "sequence_output",
    "pooled_output",
    "pooler_output",
)


def adopt(
    model: keras.Model,
    preprocessing: str | keras.Layer = "auto",
    pooling: str | None = None,
    image_shape: Sequence[int] | None = None,
    name: str | None = None,
    num_prefix_tokens: int | None = None,
) -> Backbone:
    """Wrap any Keras model as a `Backbone`.

    The weights stay the model's own and are trained in place.

    Args:
        model: model from images to a feature map, tokens or vectors, without a classifier:
            `keras.applications` with `include_top=False`, a KerasCV or KerasHub backbone, a model
            of your own. A `Backbone` passes unchanged.
        preprocessing: what to do to images in [0, 1] before the model:

            - `"unit"`: nothing; `"pixels"`: times 255; `"symmetric"`: to [-1, 1];
            - `"imagenet"`: less ImageNet's mean, divided by its standard deviation, by channel;
            - `"caffe"`: to 0..255, blue first, less ImageNet's mean (old `keras.applications`);
            - `"auto"`: `"pixels"` if the model begins with a `Rescaling` or `Normalization` layer
              made for 0..255; else what `keras.applications` uses for a model of this name; else
              `"unit"`. KerasHub's networks leave this to a converter, so name it yourself when you
              bring weights (DINOv2: `"imagenet"`);
            - a layer or model.
        pooling: as `Backbone`.
        image_shape: (H, W, C); needed where the model leaves its size open.
        name: name of the backbone; None takes the model's.
        num_prefix_tokens: as `Backbone`.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if the model is not built, takes anything but one image, ends in a classifier,
            or has no output that can be used as features.
    """
    if isinstance(model, Backbone):
        others = (pooling, image_shape, name, num_prefix_tokens)
        if preprocessing != "auto" or any(other is not None for other in others):
            raise ValueError(
                f"`model` is a Backbone already ('{model.name}') and takes no further arguments. "
                "Leave them out, or adopt `model.network`."
            )
        return model
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. "
            "Call the class or function that makes one."
        )
    _refuse_classifier(model)
    network = _one_to_one(model, image_shape)
    shape = tuple(image_shape or network.input_shape[1:])
    return Backbone(
        network,
        image_shape=shape,
        preprocessing=_preprocessing(preprocessing, model, shape[-1]),
        pooling=pooling,
        name=name or model.name,
        num_prefix_tokens=num_prefix_tokens,
    )


def _one_to_one(model: keras.Model, image_shape: Sequence[int] | None) -> keras.Model:
    """`model` inside a functional model of one tensor to one tensor."""
    inputs = getattr(model, "inputs", None)
    if inputs is None:
        if image_shape is None:
            raise ValueError(
                f"`model` '{model.name}' is not a functional model and has no input shape yet. "
                "Pass `image_shape`, e.g. (224, 224, 3), or begin it with keras.Input."
            )
        structure, shape, dtype = None, tuple(image_shape), "float32"
    else:
        if len(inputs) != 1:
            raise ValueError(
                "`model` must have one input, images. "
                f"Received: '{model.name}' with {len(inputs)}: {[x.name for x in inputs]}."
            )
        # `model.input` of a functional model keeps its structure (a dict or list of one tensor), in
        # which the images must be handed on.
        structure = inputs[0] if isinstance(model, keras.Sequential) else model.input
        shape, dtype = tuple(inputs[0].shape[1:]), inputs[0].dtype
    if len(shape) != 3 or shape[-1] is None or "float" not in dtype:
        raise ValueError(
            "`model` must take floating-point images (B, H, W, C) with C known. Received: "
            f"'{model.name}', which takes {dtype} of shape (B, {', '.join(map(str, shape))})."
        )
    images = keras.Input(shape, dtype=dtype, name="images")
    outputs = model(images if inputs is None else keras.tree.pack_sequence_as(structure, [images]))
    return keras.Model(images, _features(outputs, model.name), name=f"{model.name}_network")


def _features(outputs: Any, name: str) -> Any:
    """The one tensor among `outputs` that holds features."""
    if isinstance(outputs, Mapping):
        for key in _OUTPUT_KEYS:
            if key in outputs:
                return outputs[key]
        labels = list(outputs)
        outputs = list(outputs.values())
    elif isinstance(outputs, list | tuple):
        labels = [f"{x.name} {tuple(x.shape)}" for x in keras.tree.flatten(outputs)]
    else:
        return outputs
    if len(outputs) == 1:
        return _features(outputs[0], name)
    raise ValueError(
        f"`model` must have one output. Received: '{name}' with {len(labels)}: {labels}. "
        "Choose one: keras.Model(model.input, model.outputs[i])."
    )


def _refuse_classifier(model: keras.Model) -> None:
    """Raise if the last layer turns features into classes."""
    # Down through nested models to the layer that makes the first output.
    last = model
    while isinstance(last, keras.Model) and getattr(last, "layers", None):
        names = getattr(last, "output_names", None) or [last.layers[-1].name]
        found = [layer for layer in last.layers if layer.name == names[0]]
        if not found:  # ends in a bare operation
            return
        last = found[0]
    softmax = isinstance(last, keras.layers.Softmax) or (
        getattr(last, "activation", None) is keras.activations.softmax
    )
    if softmax or (isinstance(last, keras.layers.Dense) and last.name == "predictions"):
        raise ValueError(
            f"`model` must end in features, not in classes. Received: '{model.name}', whose last "
            f"layer is the classifier '{last.name}'. Use include_top=False, or the model's own "
            "backbone."
        )


def _preprocessing(kind: str | keras.Layer, model: keras.Model, channels: int) -> Any:
    """The layer from [0, 1] to what `model` expects, or None."""
    if isinstance(kind, keras.Layer):
        return kind
    if kind not in PREPROCESSING:
        raise ValueError(
            f"`preprocessing` must be one of {PREPROCESSING} or a layer. Received: {kind!r}."
        )
    if kind == "auto":
        kind = _guess(model)
    if kind in ("imagenet", "caffe") and channels != 3:
        raise ValueError(
            f"`preprocessing={kind!r}` is for 3 channels. Received: a model for {channels}. "
            "Use 'unit', or a layer of your own."
        )
    if kind == "pixels":
        return keras.layers.Rescaling(255.0, dtype="float32", name="to_pixels")
    if kind == "symmetric":
        return normalization(0.5, 0.5, channels)
    if kind == "imagenet":
        return normalization(IMAGENET_MEAN, IMAGENET_STD, channels)
    return _caffe() if kind == "caffe" else None


def _caffe() -> keras.Model:
    images = keras.Input((None, None, 3), dtype="float32", name="rgb")
    mean = [m / 255 for m in (103.939, 116.779, 123.68)]
    blue_first = ops.flip(images, axis=-1)
    pixels = normalization(mean, 1 / 255, 3)(blue_first)
    return keras.Model(images, pixels, name="caffe")


def _guess(model: keras.Model) -> str:
    # A model that rescales or normalises by itself shows its range: 1/255 is a scale below 0.1, and
    # a mean above 2 belongs to pixels. Others are known by the names of keras.applications.
    first = _first_layer(model)
    if isinstance(first, keras.layers.Rescaling) and _largest(first.scale) < 0.1:
        return "pixels"
    if isinstance(first, keras.layers.Normalization):
        mean = first.mean if first.input_mean is None else first.input_mean
        return "pixels" if mean is not None and _largest(mean) > 2 else "unit"
    for kind, pattern in _APPLICATIONS.items():
        if re.fullmatch(pattern, model.name, re.IGNORECASE):
            return kind
    return "unit"


def _first_layer(model: keras.Model) -> Any:
    """The first layer that computes something."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            return _first_layer(layer)
        if not isinstance(layer, keras.layers.InputLayer):
            return layer
    return None


def _largest(values: Any) -> float:
    return max(float(v) for v in ops.convert_to_numpy(ops.abs(values)).reshape(-1))
