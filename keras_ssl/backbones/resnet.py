"""ResNet-18, -34 and -50 with PyTorch's padding and the two stems of the field.

He et al. 2016, https://arxiv.org/abs/1512.03385. The networks are torchvision's trunks, layer for
layer: explicit symmetric padding, batch normalisation of epsilon 1e-5, kernels normal with variance
2 / fan out. ResNet-50 is version 1.5: the stride of a block is in its 3x3 convolution (in the
paper, in the first 1x1).

Stems: `"imagenet"` is a 7x7 convolution of stride 2 and a max-pool of stride 2; `"cifar"` a 3x3
convolution of stride 1 and no pool (SimCLR, appendix B.9), which leaves small images four times the
resolution.

Trainable parameters without a classifier; moving statistics are not among them:

              imagenet stem    cifar stem
    resnet18     11,176,512    11,168,832
    resnet34     21,284,672    21,276,992
    resnet50     23,508,032    23,500,352
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones.backbone import Backbone, check_image_shape, normalization
from keras_ssl.backbones.conv import conv_bn
from keras_ssl.ops import is_small

STEMS = ("cifar", "imagenet")


def resnet18(
    input_shape: Sequence[int] = (224, 224, 3),
    stem: str | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    zero_init_residual: bool = False,
    name: str = "resnet18",
) -> Backbone:
    """ResNet-18: features of width 512, a map of stride 32 (imagenet stem) or 8 (cifar stem).

    Args:
        input_shape: (H, W, C) of the images. Other sizes can be fed too, e.g. small crops.
        stem: `"cifar"`, `"imagenet"` or None: `"cifar"` if a side is below 64 pixels, else
            `"imagenet"`.
        mean: subtracted from images in [0, 1], one number or one a channel; None for none: SimCLR
            feeds [0, 1] as it is, and the first batch normalisation absorbs scale and shift.
        std: divides after that; goes with `mean`.
        zero_init_residual: whether the last gamma of each block starts at 0, so that blocks start
            as identities (Goyal et al. 2017). SimCLR's, Barlow Twins' and SimSiam's own code does
            so; torchvision does not.
        name: name of the model.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if `stem` is not known or `input_shape` is not (H, W, C).
    """
    return _resnet(
        _basic_block, (2, 2, 2, 2), input_shape, stem, mean, std, zero_init_residual, name
    )


def resnet34(
    input_shape: Sequence[int] = (224, 224, 3),
    stem: str | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    zero_init_residual: bool = False,
    name: str = "resnet34",
) -> Backbone:
    """ResNet-34: features of width 512. Arguments as `resnet18`."""
    return _resnet(
        _basic_block, (3, 4, 6, 3), input_shape, stem, mean, std, zero_init_residual, name
    )


def resnet50(
    input_shape: Sequence[int] = (224, 224, 3),
    stem: str | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    zero_init_residual: bool = False,
    name: str = "resnet50",
) -> Backbone:
    """ResNet-50, version 1.5: features of width 2048. Arguments as `resnet18`."""
    return _resnet(
        _bottleneck, (3, 4, 6, 3), input_shape, stem, mean, std, zero_init_residual, name
    )


def _resnet(
    block: Callable,
    depths: Sequence[int],
    input_shape: Sequence[int],
    stem: str | None,
    mean: Any,
    std: Any,
    zero_init: bool,
    name: str,
) -> Backbone:
    height, width, channels = check_image_shape(input_shape)
    if stem is None:
        stem = "cifar" if is_small((height, width)) else "imagenet"
    if stem not in STEMS:
        raise ValueError(f"`stem` must be one of {STEMS} or None. Received: stem={stem!r}.")
    # Height and width stay open, so that small crops (multi-crop) go through the same network.
    inputs = keras.Input((None, None, channels), name="images")
    if stem == "cifar":
        x = conv_bn(inputs, 64, 3, name="stem")
    else:
        x = conv_bn(inputs, 64, 7, 2, name="stem")
        # PyTorch pads a max-pool with minus infinity; after a ReLU zeros do the same.
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            # Each stage halves the map in its first block; the stem has done so before the first.
            stride = 2 if stage > 1 and i == 1 else 1
            x = block(x, 32 * 2**stage, stride, zero_init, f"stage{stage}_block{i}")
    return Backbone(
        keras.Model(inputs, x, name=f"{name}_network"),
        image_shape=(height, width, channels),
        preprocessing=normalization(mean, std, channels),
        name=name,
    )


def _basic_block(x: Any, filters: int, stride: int, zero_init: bool, name: str) -> Any:
    y = conv_bn(x, filters, 3, stride, name=f"{name}_1")
    y = conv_bn(y, filters, 3, name=f"{name}_2", relu=False, zero_init=zero_init)
    return _add(_shortcut(x, filters, stride, name), y, name)


def _bottleneck(x: Any, filters: int, stride: int, zero_init: bool, name: str) -> Any:
    y = conv_bn(x, filters, 1, name=f"{name}_1")
    y = conv_bn(y, filters, 3, stride, name=f"{name}_2")
    y = conv_bn(y, 4 * filters, 1, name=f"{name}_3", relu=False, zero_init=zero_init)
    return _add(_shortcut(x, 4 * filters, stride, name), y, name)


def _shortcut(x: Any, filters: int, stride: int, name: str) -> Any:
    if stride == 1 and x.shape[-1] == filters:
        return x
    return conv_bn(x, filters, 1, stride, name=f"{name}_shortcut", relu=False)


def _add(shortcut: Any, y: Any, name: str) -> Any:
    y = keras.layers.Add(name=f"{name}_add")([shortcut, y])
    return keras.layers.ReLU(name=f"{name}_out")(y)
