"""Where a vision transformer looks: the attention of its last block."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.backbones.backbone import Backbone


def has_attention_maps(backbone: Backbone) -> bool:
    """Whether `attention_maps` can read the backbone: the transformers of `vit` and its sizes."""
    return backbone.kind == "tokens" and _last_attention(backbone) is not None


def attention_maps(backbone: Backbone, images: Any) -> np.ndarray:
    """Attention of the last block to each patch, by head.

    The weights with which the query of the class token (for pooling by the mean: of every patch, on
    average) takes up each patch: softmax over all tokens, of which those before the patches are
    left out; so a map sums to at most 1.

    Caron et al. 2021 (DINO), https://arxiv.org/abs/2104.14294, figure 1. Departures: none known.

    Args:
        backbone: made by `keras_ssl.backbones.vit` or one of its sizes.
        images: `(B, H, W, C)`, uint8 or float in [0, 1].

    Returns:
        float32 `(B, heads, h, w)`.

    Raises:
        ValueError: if the backbone is another network.
    """
    layer = _last_attention(backbone) if backbone.kind == "tokens" else None
    if layer is None:
        raise ValueError(
            "`backbone` must be a vision transformer of keras_ssl, whose attention can be read. "
            f"Received: '{backbone.name}'. Use `small_vit`, `vit_tiny`, `vit_small`, `vit_base`."
        )
    network, prefix = backbone.network, backbone.num_prefix_tokens
    before = network.get_layer(layer.name.replace("attention", "norm1")).output
    tokens = keras.Model(network.inputs, before)(backbone.prepared(images), training=False)
    _, weights = layer(tokens, tokens, return_attention_scores=True)  # (B, heads, T, T)
    queries = weights[:, :, :1] if backbone.pooling == "cls" else weights[:, :, prefix:]
    maps = ops.mean(ops.cast(queries, "float32"), axis=2)[:, :, prefix:]
    grid = backbone.feature_map(images[:1]).shape[1:3]
    return ops.convert_to_numpy(ops.reshape(maps, (*maps.shape[:2], *grid)))


def _last_attention(backbone: Backbone) -> Any:
    """The layer, or None where the network is not one of ours."""
    names = {layer.name for layer in backbone.network.layers}
    if not {"tokens", "block1_attention", "block1_norm1"} <= names:
        return None
    return [layer for layer in backbone.network.layers if layer.name.endswith("_attention")][-1]
