"""Trained networks layer by layer: smaller rates, or none, for what lies near the images."""

import keras

from keras_ssl.backbones.backbone import Backbone
from keras_ssl.backbones.stages import stages, until


def rate_factors(model: keras.Model, backbone: Backbone, layer_decay: float) -> list[float]:
    """Factors of the learning rate by layer, for `optimizers.AdamW`: what is new learns fastest.

    The variables of the k-th of n `stages` (of a transformer of 12 blocks: the patch projection,
    the blocks and the last norm) have layer_decay^(n + 1 - k); what is outside of the backbone,
    such as a new linear layer, has 1. Masked autoencoders are fine-tuned with 0.65 to 0.75 (He et
    al. 2022, https://arxiv.org/abs/2111.06377, appendix A). Departures: positions count to the
    first block, and the last norm, which belongs to the new layer there, is a stage.

    Args:
        model: the model that is trained, which contains the backbone.
        backbone: a `Backbone` around a functional network.
        layer_decay: in (0, 1]; 1 for the same rate everywhere.

    Returns:
        A number for each of `model.trainable_variables`, in their order.

    Raises:
        ValueError: if `layer_decay` is out of range, or the network has no inner stages.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"`layer_decay` must be in (0, 1]. Received: layer_decay={layer_decay!r}.")
    if layer_decay == 1:
        return [1.0] * len(model.trainable_variables)
    cuts = list(stages(backbone).values())
    factors = {}
    for k, cut in enumerate(cuts, start=1):
        for variable in cut.variables:  # of the earlier stages too, which are in the dict already
            factors.setdefault(id(variable), layer_decay ** (len(cuts) + 1 - k))
    return [factors.get(id(variable), 1.0) for variable in model.trainable_variables]


def freeze(backbone: Backbone, layer: str) -> Backbone:
    """Hold still all layers up to the stage `layer`; their batch statistics too. Returns it.

    Undo it by `backbone.trainable = True`. Compile after it.

    Args:
        backbone: a `Backbone` around a functional network.
        layer: name of a stage, one of `stages`; that of the last freezes the whole.

    Raises:
        ValueError: if there is no such stage; the message names those there are.
    """
    for inner in until(backbone, layer)._flatten_layers(include_self=False):
        if not hasattr(inner, "_nodes_by_depth"):  # functional models reach beyond the stage
            inner.trainable = False
    return backbone
