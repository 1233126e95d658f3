"""DINOv2's weights in a transformer of this library."""

from typing import Any

import keras
from keras import ops

from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.backbones.unwrap import unwrap
from keras_ssl.backbones.vit import vit

_NAME = "DINOV2Backbone"  # of the class; KerasHub need not be installed


def from_dinov2(model: keras.Model, drop_path: float = 0.0) -> Backbone:
    """KerasHub's DINOv2 as `vit`, with its weights: for methods that hide patches, and multi-crop.

    KerasHub's own network takes images of one size alone, and does not tell its parts. This one
    computes the same features.

    Oquab et al. 2023, https://arxiv.org/abs/2304.07193. Departures: none known.

    Args:
        model: a `keras_hub.models.DINOV2Backbone`, or a `Backbone` that was adopted from one, which
            says how images are scaled; else ImageNet's mean and standard deviation, as the authors
            have it.
        drop_path: stochastic depth for training on, as `vit`.

    Returns:
        A `Backbone` for images of the model's size; others get positions resized.

    Raises:
        ValueError: if the model is another network, or one with gated perceptrons (`giant`) or
            channels first.
    """
    network = unwrap(model)[0] if isinstance(model, Backbone) else model
    if type(network).__name__ != _NAME:
        raise ValueError(
            f"`model` must be a DINOV2Backbone of KerasHub. Received: {type(network).__name__}."
        )
    backbone = model
    if not isinstance(model, Backbone):
        prefix = 1 + network.num_register_tokens
        backbone = adopt(model, preprocessing="imagenet", num_prefix_tokens=prefix)
    first, wide = network.encoder.layers[0], network.intermediate_dim
    if network.use_swiglu_ffn or wide != 4 * network.hidden_dim:
        raise ValueError(
            "`model` must have perceptrons of one hidden layer, four times as wide as its tokens. "
            f"Received: hidden_dim={network.hidden_dim}, intermediate_dim={wide}, use_swiglu_ffn="
            f"{network.use_swiglu_ffn}. Take the small, base or large size."
        )
    if network.embeddings.data_format != "channels_last":
        raise ValueError("`model` must have channels last. Received: data_format='channels_first'.")
    own = vit(
        network.hidden_dim,
        len(network.encoder.layers),
        first.num_heads,
        backbone.image_shape,
        network.patch_size,
        registers=network.num_register_tokens,
        drop_path=drop_path,
        layer_scale=1.0,  # weights follow
        mean=None,
        std=None,
        name=backbone.name,
    )
    _fill(own.network, network)
    return Backbone(
        own.network,
        own.image_shape,
        backbone.preprocessing,
        backbone.pooling,
        backbone.name,
        num_prefix_tokens=own.num_prefix_tokens,
    )


def is_dinov2(backbone: Backbone) -> bool:
    """Whether a backbone was adopted from KerasHub's DINOv2."""
    if any(isinstance(layer, keras.layers.TFSMLayer) for layer in backbone._flatten_layers()):
        return False  # a SavedModel is one piece
    return type(unwrap(backbone)[0]).__name__ == _NAME


def _fill(ours: keras.Model, theirs: Any) -> None:
    """Copy all weights."""

    def copy(layer: keras.Layer, name: str) -> None:
        ours.get_layer(name).set_weights(layer.get_weights())

    copy(theirs.embeddings.patch_embeddings, "patches")
    embeddings = theirs.embeddings
    tokens = [embeddings.cls_token, embeddings.interpolated_position_embeddings]
    if embeddings.num_register_tokens:
        tokens.append(embeddings.register_tokens)
    ours.get_layer("tokens").set_weights([ops.convert_to_numpy(token) for token in tokens])
    for number, layer in enumerate(theirs.encoder.layers, start=1):
        parts = {
            "norm1": layer.norm1,
            "attention": layer.attention,
            "scale1": layer.layer_scale1,
            "norm2": layer.norm2,
            "mlp1": layer.mlp.fc1,
            "mlp2": layer.mlp.fc2,
            "scale2": layer.layer_scale2,
        }
        for name, part in parts.items():
            copy(part, f"block{number}_{name}")
    copy(theirs.layernorm, "norm")
