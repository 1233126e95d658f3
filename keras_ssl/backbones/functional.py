"""A backbone as a functional model of Keras' own layers, which loads without this library."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

_BATCH_NORM_ARGUMENTS = frozenset(
    inspect.signature(keras.layers.BatchNormalization.__init__).parameters
)


def to_functional(backbone: Any, feature_map: bool = False) -> keras.Model:
    """Copy a backbone, weights included, into a functional model made of Keras' own layers.

    Batch normalisation becomes `keras.layers.BatchNormalization`, class token and positions become
    `ZeroPadding1D` and `EinsumDense`. So a `.keras` file of it loads where this library is not
    installed, unless an adopted network has layers of a third library, which stay as they are.
    Nothing is shared with `backbone`.

    Args:
        backbone: a `Backbone`.
        feature_map: whether to give the map as well.

    Returns:
        A model from float32 images in [0, 1], `(B, H, W, C)` of the backbone's `image_shape`, to
        float32 features `(B, feature_dim)`; with `feature_map`, to a dict of `"features"` and
        `"feature_map"` `(B, h, w, feature_dim)`.

    Raises:
        ValueError: if a map is asked of a backbone that has none.
    """
    if feature_map and backbone.kind == "vector":
        raise ValueError(f"Backbone '{backbone.name}' has no feature map. Use feature_map=False.")
    images = keras.Input(backbone.image_shape, dtype="float32", name="images")
    x = images
    if backbone.preprocessing is not None:
        x = copy_layer(backbone.preprocessing, backbone.image_shape)(x)
    x = copy_layer(backbone.network, backbone.image_shape)(x)
    outputs = {"features": _pool(backbone, x)}
    if feature_map:
        outputs["feature_map"] = _map(backbone, x)
    # Half-precision policies end here: whoever loads the file gets float32.
    outputs = {
        key: keras.layers.Activation("linear", dtype="float32", name=key)(value)
        for key, value in outputs.items()
    }
    return keras.Model(images, outputs if feature_map else outputs["features"], name=backbone.name)


def _pool(backbone: Any, x: Any) -> Any:
    layers, prefix = keras.layers, backbone.num_prefix_tokens
    if backbone.kind == "map":
        return layers.GlobalAveragePooling2D(name="pool")(x)
    if backbone.kind == "vector":
        return x
    if backbone.pooling == "cls":
        x = layers.Cropping1D((0, x.shape[1] - 1), name="class_token_only")(x)
        return layers.Flatten(name="pool")(x)
    return layers.GlobalAveragePooling1D(name="pool")(_crop(x, prefix, "patches_for_pool"))


def _map(backbone: Any, x: Any) -> Any:
    if backbone.kind == "map":
        return x
    x = _crop(x, backbone.num_prefix_tokens, "patches")
    grid = backbone.token_grid()
    return keras.layers.Reshape((*grid, backbone.feature_dim), name="grid")(x)


def _crop(x: Any, prefix: int, name: str) -> Any:
    return keras.layers.Cropping1D((prefix, 0), name=name)(x) if prefix else x


def copy_layer(layer: keras.Layer, image_shape: tuple) -> keras.Layer:
    """A copy of a layer or model for images, with the same weights, in Keras' own layers."""
    # Weights are copied only after the whole graph is cloned: layers are built by being called.
    pairs = []

    def clone(old: Any) -> Any:
        new = _clone_graph(old, clone) if is_graph(old) else _equivalent(old)
        pairs.append((old, new))
        return new

    if is_graph(layer):
        images = keras.Input(image_shape, dtype=layer.inputs[0].dtype, name="input")
        copy = _clone_graph(layer, clone, images)
    else:
        copy = clone(layer)
        copy.build((None, *image_shape))
    for old, new in pairs:
        if isinstance(old, keras.Layer) and not is_graph(old) and old.weights:
            new.set_weights(
                old.core_weights() if hasattr(old, "core_weights") else old.get_weights()
            )
    return copy


def is_graph(layer: Any) -> bool:
    """Whether `layer` is a functional or sequential model of Keras' own class.

    Other libraries' models keep their class: it can save itself, their layers perhaps not.
    """
    return isinstance(layer, keras.Model) and type(layer).__module__.split(".")[0] == "keras"


def _clone_graph(model: keras.Model, clone: Callable, images: Any = None) -> keras.Model:
    return keras.models.clone_model(model, input_tensors=images, clone_function=clone)


def _equivalent(layer: Any) -> Any:
    """A fresh layer that computes what `layer` does, one of Keras' own if it can be."""
    if hasattr(layer, "core_layer"):
        return layer.core_layer()
    # Our batch normalisation is a subclass with further arguments, which Keras' own would refuse;
    # at inference both compute the same.
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        known = {key: value for key, value in config.items() if key in _BATCH_NORM_ARGUMENTS}
        return keras.layers.BatchNormalization.from_config(
            {**known, **{key: config[key] for key in ("name", "dtype", "trainable")}}
        )
    return type(layer).from_config(config)
