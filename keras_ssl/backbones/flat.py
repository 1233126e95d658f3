"""The feature map flattened into one vector, for heads that need positions."""

import math
from typing import Any

from keras import ops

from keras_ssl.backbones.backbone import Backbone


def flat_features(backbone: Backbone, images: Any, training: bool | None = None) -> Any:
    """The backbone's feature map as vectors; features themselves where there is no map.

    Args:
        backbone: a `Backbone`.
        images: `(B, H, W, C)` of the backbone's `image_shape`, uint8 or float in [0, 1].
        training: as in calls of Keras layers.

    Returns:
        `(B, flat_dim(backbone))`.
    """
    if backbone.kind == "vector":
        return backbone(images, training=training)
    return ops.reshape(backbone.feature_map(images, training=training), (-1, flat_dim(backbone)))


def flat_dim(backbone: Backbone) -> int:
    """Width of `flat_features`: places times width of the features, of `image_shape` images."""
    if backbone.kind == "vector":
        return backbone.feature_dim
    if backbone.kind == "tokens":
        return math.prod(backbone.token_grid()) * backbone.feature_dim
    return math.prod(backbone.network.compute_output_shape(backbone.input_shape)[1:])
