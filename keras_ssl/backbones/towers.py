"""Several encoders side by side, each of which sees some of an image's channels."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.ops.color import rgb_to_lab, rgb_to_ydbdr

# Conversion, mean and standard deviation of each channel, as the authors of CMC have them.
_COLOR_SPACES = {
    "lab": (rgb_to_lab, (50.0, 6.025, -6.69), (50.0, 92.208, 101.1675)),
    "ydbdr": (rgb_to_ydbdr, (0.457, -0.082, -0.052), (0.5, 1.331, 1.333)),
}


def channel_towers(
    backbone: Any, groups: Sequence[Sequence[int]] = ((0,), (1, 2)), color_space: str | None = "lab"
) -> Backbone:
    """One backbone of several, each for a group of channels, with their features side by side.

    Every tower takes all channels, with those of the other groups set to zero, so that any backbone
    serves; kernels of masked channels get no gradient. The default is CMC's split into lightness
    and colour, Tian et al. 2019, https://arxiv.org/abs/1906.05849.

    Args:
        backbone: a `Backbone`, or a model that `adopt` takes, which becomes the first tower; the
            others are copies of it with weights of their own. Or a list of them, one for each
            group, for images of one shape.
        groups: channels of each tower, numbers from 0; a channel may belong to several.
        color_space: what RGB images are converted into first, "lab" (CIE L*a*b*) or "ydbdr", both
            normalised by the mean and standard deviation of the authors' codes; None leaves
            channels as they are and normalises them as the first backbone does.

    Returns:
        A `Backbone` that gives vectors, features of the first tower first.

    Raises:
        ValueError: if a channel does not exist, a group is empty, there are fewer than two groups,
            backbones differ in number or shape, or images for a colour space are not RGB.
    """
    several = isinstance(backbone, list | tuple)
    first = adopt(backbone[0] if several else backbone)
    shape = first.image_shape
    groups = _checked(groups, shape[-1])
    if several:
        backbones = [first, *(adopt(each) for each in backbone[1:])]
    else:
        backbones = [first, *(type(first).from_config(first.get_config()) for _ in groups[1:])]
    if len(backbones) != len(groups) or any(each.image_shape != shape for each in backbones):
        raise ValueError(
            "`backbone` must be one network or one for each of `groups`, for images of one shape. "
            f"Received: {len(backbones)} for {[b.image_shape for b in backbones]}, and "
            f"{len(groups)} groups."
        )
    preprocessing = _conversion(first, color_space)
    image = keras.Input(shape, dtype="float32", name="channels")
    features = [
        _tower(each, shape, group, f"tower{i}")(image)
        for i, (each, group) in enumerate(zip(backbones, groups, strict=True), start=1)
    ]
    network = keras.Model(image, keras.layers.Concatenate(name="towers")(features), name="towers")
    return Backbone(network, shape, preprocessing=preprocessing, name=f"{first.name}_towers")


def towers_of(backbone: Backbone) -> list[keras.Model]:
    """The towers of what `channel_towers` made, in order; none of another backbone."""
    layers = {layer.name: layer for layer in backbone.network.layers}
    if "towers" not in layers:
        return []
    return [layers[f"tower{i}"] for i in range(1, len(layers)) if f"tower{i}" in layers]


def _checked(groups: Sequence[Sequence[int]], channels: int) -> list[list[int]]:
    groups = [sorted(group) for group in groups]
    if len(groups) < 2 or any(not g or g[0] < 0 or g[-1] >= channels for g in groups):
        raise ValueError(
            "`groups` must be two or more lists of channels, none of them empty. Received: "
            f"groups={groups} for images of {channels} channels, 0 to {channels - 1}."
        )
    return groups


def _conversion(backbone: Backbone, color_space: str | None) -> keras.Layer | None:
    """From images in [0, 1] to normalised channels."""
    if color_space is None:
        return backbone.preprocessing
    if color_space not in _COLOR_SPACES or backbone.image_shape[-1] != 3:
        raise ValueError(
            f"`color_space` must be one of {sorted(_COLOR_SPACES)}, for images of three channels, "
            f"RGB, or None. Received: color_space={color_space!r} and images of "
            f"{backbone.image_shape}. Pass None to take channels as they are."
        )
    convert, mean, std = _COLOR_SPACES[color_space]
    rgb = keras.Input(backbone.image_shape, dtype="float32", name="rgb")
    normalized = (convert(rgb) - np.array(mean, "float32")) / np.array(std, "float32")
    return keras.Model(rgb, normalized, name=f"rgb_to_{color_space}")


def _tower(backbone: Backbone, shape: Sequence[int], group: list[int], name: str) -> keras.Model:
    """Pooled features of the channels in `group`, a model of its own."""
    # Masked rather than sliced: a backbone made for three channels serves every group unchanged.
    mask = np.zeros(shape[-1], "float32")
    mask[group] = 1.0
    channels = keras.Input(shape, dtype="float32", name=f"{name}_channels")
    x = backbone.network(channels * mask)
    if backbone.kind == "map":
        x = ops.mean(x, axis=(1, 2))
    elif backbone.kind == "tokens":
        places = x[:, backbone.num_prefix_tokens :]
        x = x[:, 0] if backbone.pooling == "cls" else ops.mean(places, axis=1)
    return keras.Model(channels, x, name=name)
