"""A vision transformer in three parts, for methods that hide patches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_ssl.backbones.backbone import Backbone


class TokenParts(NamedTuple):
    """What the network of a transformer does, in its order; weights are the network's own.

    Attributes:
        patches: images in [0, 1] `(B, H, W, C)` -> map of patches `(B, h, w, D)`, without
            positions; the backbone's preprocessing comes first.
        positions: map -> tokens `(B, prefix + h w, D)`: class token and registers, then the patches
            row by row, with their positions.
        blocks: tokens, in any number -> tokens, the final norm included.
        grid: (h, w).
        width: D.
        prefix: number of tokens before the patches.
    """

    patches: Callable[[Any], Any]
    positions: keras.Layer
    blocks: keras.Model
    grid: tuple[int, int]
    width: int
    prefix: int


def token_parts(backbone: Backbone) -> TokenParts:
    """The parts of a backbone made by `keras_ssl.backbones.vit` and its sizes.

    Raises:
        ValueError: if it is another network.
    """
    names = {layer.name for layer in backbone.network.layers}
    if backbone.kind != "tokens" or not {"patches", "tokens"} <= names:
        raise ValueError(
            "`backbone` must be a vision transformer of keras_ssl, as methods that hide patches "
            f"need its parts. Received: '{backbone.name}', a network that gives "
            f"{'tokens' if backbone.kind == 'tokens' else 'a ' + backbone.kind}. Use `small_vit`, "
            "`vit_tiny`, `vit_small`, `vit_base` or `backbones.vit`; for DINOv2 of KerasHub "
            "`backbones.from_dinov2`."
        )
    network = backbone.network
    patches, positions = network.get_layer("patches"), network.get_layer("tokens")

    def embedded(images: Any) -> Any:
        return patches(backbone.prepared(images))

    blocks = keras.Model(positions.output, network.output, name=f"{backbone.name}_blocks")
    sizes = (positions.grid, backbone.feature_dim, backbone.num_prefix_tokens)
    return TokenParts(embedded, positions, blocks, *sizes)
