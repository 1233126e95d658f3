"""The network inside a backbone, for models of the library that it comes from."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones.backbone import Backbone
from keras_ssl.backbones.functional import copy_layer, is_graph
from keras_ssl.ops import to_unit_range


def unwrap(
    backbone: Backbone, image_shape: Sequence[int | None] | None = None
) -> tuple[keras.Model, Callable]:
    """Take the network out of a backbone, the reverse of `adopt`.

    KerasCV's and KerasHub's detectors and classifiers take a backbone of their own library. Of one
    that was adopted from there, this is the very object, with the trained weights, from the encoder
    of a run folder as from a `.keras` file of `export_encoder`. It lacks what `Backbone` does
    before and after it, so whoever uses it has to prepare the images:

        network, prepare = keras_ssl.backbones.unwrap(keras_ssl.load_encoder("runs/1"))
        model = keras_cv.models.ImageClassifier(backbone=network, num_classes=2)
        model.predict(prepare(images))

    Args:
        backbone: a `Backbone`, such as `load_encoder` gives.
        image_shape: (H, W, C) of other images than the backbone's, such as a detector's; H and W
            may be None for any size. The network is then a copy made for them, weights included.
            Transformers that learn a vector for each place have weights for one size alone.

    Returns:
        The network, without scaling before it and without pooling after it; its weights are the
        backbone's own unless `image_shape` is given. And the function from images, uint8 or float
        in [0, 1], to what the network expects of them.

    Raises:
        ValueError: if the backbone is a SavedModel, which is one piece, or the network cannot be
            made for `image_shape`.

    Example:
        >>> network, prepare = unwrap(adopt(keras_cv.models.ResNet18V2Backbone()))
    """
    if any(isinstance(x, keras.layers.TFSMLayer) for x in backbone._flatten_layers()):
        raise ValueError(
            f"`backbone` must hold a network of Keras layers. Received: '{backbone.name}', a "
            "SavedModel, which is one piece. Take the run folder or a .keras file."
        )
    network, steps = backbone.network, [backbone.preprocessing]
    while (node := _core(network)) is not None:
        entrance = node.input_tensors[0]
        if entrance is not network.inputs[0]:
            steps.append(keras.Model(network.inputs, entrance, name="preparation"))
        network = node.operation
    steps = [step for step in steps if step is not None]

    def prepare(images: Any) -> Any:
        """What the network expects of images, uint8 or float in [0, 1]."""
        x = to_unit_range(images)
        for step in steps:
            x = step(x)
        return x

    return network if image_shape is None else _of_shape(network, tuple(image_shape)), prepare


def _core(model: keras.Model) -> Any:
    """The node of the model inside `model` that has all its weights, or None."""
    if not is_graph(model):
        return None
    weights = {id(weight) for weight in model.weights}
    for nodes in getattr(model, "_functional", model)._nodes_by_depth.values():
        for node in nodes:
            inner = node.operation
            if isinstance(inner, keras.Model) and {id(w) for w in inner.weights} == weights:
                return node
    return None


def _of_shape(network: keras.Model, shape: tuple) -> keras.Model:
    """A copy of `network` for images of `shape`, with its weights."""
    try:
        if is_graph(network):
            return copy_layer(network, shape)
        config = network.get_config()
        config |= {name: shape for name in ("input_shape", "image_shape") if name in config}
        copy = type(network).from_config(config)
        copy.set_weights(network.get_weights())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`image_shape` must be one that the network '{network.name}' can be made for with its "
            f"weights. Received: image_shape={shape}. {' '.join(str(error).split())[:300]}"
        ) from error
    return copy
