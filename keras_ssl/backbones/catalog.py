"""Backbones by name."""

from collections.abc import Sequence

import keras

from keras_ssl.backbones import resnet, vit
from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.backbones.libraries import from_library
from keras_ssl.backbones.small_conv import small_conv
from keras_ssl.ops.names import near

_MAKERS = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "small_conv": small_conv,
    "small_vit": vit.small_vit,
    "vit_base": vit.vit_base,
    "vit_small": vit.vit_small,
    "vit_tiny": vit.vit_tiny,
}
NAMES = tuple(_MAKERS)


def get(backbone: str | keras.Model, input_shape: Sequence[int] | None = None) -> Backbone:
    """A backbone from its name, or from any model by `adopt`.

    Args:
        backbone: one of `NAMES`, in any case, `-` and `_` ignored; a network of another library,
            such as "keras_applications:EfficientNetV2B0" (see `from_library`); or a model.
        input_shape: (H, W, C) of the images; None is the default of the named backbone, or what the
            model takes.

    Returns:
        A `Backbone`; a `Backbone` passes unchanged.

    Raises:
        ValueError: if the name is not known, or the model does not take such images.
    """
    if isinstance(backbone, str) and ":" in backbone:
        return from_library(backbone, input_shape)
    if isinstance(backbone, str):
        plain = {_plain(name): name for name in NAMES}
        if _plain(backbone) not in plain:
            raise ValueError(
                "`backbone` must be a known name, LIBRARY:NAME (such as "
                "keras_applications:EfficientNetV2B0), or any keras.Model without its classifier. "
                f"Received: backbone={backbone!r}.{near(backbone, NAMES)}"
            )
        maker = _MAKERS[plain[_plain(backbone)]]
        return maker() if input_shape is None else maker(input_shape)
    if isinstance(backbone, Backbone):
        if input_shape is not None and tuple(input_shape) != backbone.image_shape:
            raise ValueError(
                f"`input_shape` must be that of the backbone, {backbone.image_shape}. "
                f"Received: input_shape={tuple(input_shape)}. Leave it out."
            )
        return backbone
    return adopt(backbone, image_shape=input_shape)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
