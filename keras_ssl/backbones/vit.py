"""Vision transformers of DeiT's sizes.

Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; sizes of Touvron et al. 2021 (DeiT),
https://arxiv.org/abs/2012.12877, table 1. Pre-norm blocks, a class token, learned positions, a
final norm; no dropout. Kernels, class token and positions start as normal numbers of standard
deviation 0.02. Departures from DeiT's code: the kernel of the patches starts
like the others; no stochastic depth unless it is asked for.

The networks of MoCo v3 (Chen, Xie, He 2021, https://arxiv.org/abs/2104.02057) start otherwise:

    vit_small(heads=12, positions="sincos", initializer="glorot_uniform", frozen_patches=True)

Those of DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193), as far as their sizes go:

    vit_base(patch_size=14, registers=4, drop_path=0.3, layer_scale=1e-5)

Parameters at 224 pixels and patch 16, without a classifier: vit_tiny 5,524,416,
vit_small 21,665,664, vit_base 85,798,656.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones.backbone import Backbone, check_image_shape, normalization
from keras_ssl.backbones.positions import POSITIONS, ClassTokenAndPositions
from keras_ssl.layers.dropout import DropPath
from keras_ssl.layers.layer_scale import LayerScale

INITIALIZERS = ("truncated_normal", "glorot_uniform")


def vit(
    width: int,
    depth: int,
    heads: int,
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    positions: str = "learned",
    initializer: str = "truncated_normal",
    frozen_patches: bool = False,
    registers: int = 0,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    pooling: str = "cls",
    mean: float | Sequence[float] | None = 0.5,
    std: float | Sequence[float] | None = 0.25,
    name: str = "vit",
) -> Backbone:
    """A vision transformer of any size.

    Args:
        width: numbers of a token.
        depth: blocks, 1 or more.
        heads: heads of the attention, which divide the width.
        input_shape: (H, W, C) of the images, sides divisible by the patch. Other sizes can be fed
            too: positions are then resized bicubically, as in DINO's code.
        patch_size: side of a patch in pixels; None: 16 if both sides are 96 or more, else 4.
        positions: `"learned"`, or `"sincos"`: fixed waves (`sincos_positions`).
        initializer: of kernels: `"truncated_normal"` as above, or `"glorot_uniform"`: limits
            sqrt(6 / (fan in + fan out)) with queries, keys and values as three matrices and a patch
            as a vector; the class token then starts with standard deviation 1e-6.
        frozen_patches: whether the patch projection keeps its random initial values, which
            stabilises training (MoCo v3, section 4): no gradient, no weight decay.
        registers: number of learned tokens beside the class token (Darcet et al. 2023,
            https://arxiv.org/abs/2309.16588), which attract what belongs to no place; the feature
            map leaves them out.
        drop_path: stochastic depth (`keras_ssl.layers.dropout.DropPath`), in [0, 1): its rate goes
            from 0 in the first block to this in the last; not in teachers, nor where a method
            hides patches. Pixels decide which branches an image skips.
        layer_scale: initial value of a learned factor for each channel of both branches of a block
            (Touvron et al. 2021, https://arxiv.org/abs/2103.17239); None for no such factor.
        pooling: `"cls"` (class token) or `"avg"` (mean of the patches).
        mean: subtracted from images in [0, 1], one number or one a channel. The default brings
            images to about mean 0 and standard deviation 1, as no batch normalisation does it here;
            for weights of others pass theirs.
        std: divides after that; goes with `mean`.
        name: name of the model.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if the patch does not divide the sides, or an argument is not known.
    """
    height, image_width, channels = check_image_shape(input_shape)
    patch_size = _check_patch_size(patch_size, height, image_width)
    _check_start(width, depth, heads, positions, initializer)
    _check_extras(registers, drop_path, layer_scale)
    inputs = keras.Input((None, None, channels), name="images")
    x = keras.layers.Conv2D(
        width,
        patch_size,
        patch_size,
        kernel_initializer=_kernel(initializer, channels * patch_size**2, width),
        trainable=not frozen_patches,
        name="patches",
    )(inputs)
    grid = (height // patch_size, image_width // patch_size)
    stddev = 1e-6 if initializer == "glorot_uniform" else 0.02  # of the class token: MoCo v3's code
    x = ClassTokenAndPositions(grid, positions, stddev, registers, name="tokens")(x)
    for i in range(depth):
        own = (drop_path * i / max(1, depth - 1), 2 * i, layer_scale)
        x = block(x, width, heads, initializer, f"block{i + 1}", *own)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return Backbone(
        keras.Model(inputs, x, name=f"{name}_network"),
        image_shape=(height, image_width, channels),
        preprocessing=normalization(mean, std, channels),
        pooling=pooling,
        name=name,
        num_prefix_tokens=1 + registers,
    )


def small_vit(
    input_shape: Sequence[int] = (32, 32, 3),
    patch_size: int | None = None,
    *,
    positions: str = "sincos",
    initializer: str = "glorot_uniform",
    pooling: str = "avg",
    name: str = "small_vit",
    **options: Any,
) -> Backbone:
    """A transformer for two cores and small images: 6 blocks of width 96, 3 heads.

    A size of our own, with the mean of the patches as features. Arguments and `options` as `vit`.
    """
    start = {"positions": positions, "initializer": initializer, "pooling": pooling}
    return vit(96, 6, 3, input_shape, patch_size, name=name, **start, **options)


def vit_tiny(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    heads: int = 3,
    name: str = "vit_tiny",
    **options: Any,
) -> Backbone:
    """ViT-Ti: 12 blocks of width 192. Arguments and `options` as `vit`."""
    return vit(192, 12, heads, input_shape, patch_size, name=name, **options)


def vit_small(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    heads: int = 6,
    name: str = "vit_small",
    **options: Any,
) -> Backbone:
    """ViT-S: 12 blocks of width 384. Arguments and `options` as `vit`."""
    return vit(384, 12, heads, input_shape, patch_size, name=name, **options)


def vit_base(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    heads: int = 12,
    name: str = "vit_base",
    **options: Any,
) -> Backbone:
    """ViT-B: 12 blocks of width 768. Arguments and `options` as `vit`."""
    return vit(768, 12, heads, input_shape, patch_size, name=name, **options)


def block(
    x: Any,
    width: int,
    heads: int,
    initializer: str,
    name: str,
    drop_path: float = 0.0,
    salt: int = 0,
    layer_scale: float | None = None,
    attended: Any = None,
) -> Any:
    """A block of a transformer on symbolic tokens `(B, T, width)`; names begin with `name`.

    Args:
        x: the tokens.
        width: numbers of a token.
        heads: heads of the attention.
        initializer: of kernels, as `vit`.
        name: of the block.
        drop_path: probability that an image skips a branch, in training.
        salt: of the attention's `DropPath`; the perceptron's has the next.
        layer_scale: as `vit`.
        attended: symbolic, boolean `(B, T, T)`: which tokens (last axis) each one looks at.
    """
    layers = keras.layers

    def branch(y: Any, place: int) -> Any:
        if layer_scale is not None:
            y = LayerScale(layer_scale, name=f"{name}_scale{place}")(y)
        if drop_path:
            y = DropPath(drop_path, salt + place - 1, name=f"{name}_drop_path{place}")(y)
        return y

    # Pre-norm: x + attention(norm(x)), then x + mlp(norm(x)); epsilon as in DeiT.
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(
        heads,
        width // heads,
        kernel_initializer=_kernel(initializer, width, width),
        name=f"{name}_attention",
    )(y, y, attention_mask=attended)
    x = layers.Add(name=f"{name}_add1")([x, branch(y, 1)])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    wide = 4 * width
    kernel = _kernel(initializer, width, wide)
    y = layers.Dense(wide, kernel_initializer=kernel, name=f"{name}_mlp1")(y)
    # Exact, not the tanh approximation; CPUs are slow at the error function of bfloat16.
    y = layers.Activation("gelu", dtype="float32", name=f"{name}_gelu")(y)
    kernel = _kernel(initializer, wide, width)
    y = layers.Dense(width, kernel_initializer=kernel, name=f"{name}_mlp2")(y)
    return layers.Add(name=f"{name}_add2")([x, branch(y, 2)])


def _check_patch_size(patch_size: int | None, height: int, width: int) -> int:
    if patch_size is None:
        patch_size = 16 if min(height, width) >= 96 else 4
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            "`patch_size` must divide both sides of the image. "
            f"Received: patch_size={patch_size}, for images of {height} x {width}."
        )
    return patch_size


def _check_start(width: int, depth: int, heads: int, positions: str, initializer: str) -> None:
    if depth < 1:
        raise ValueError(f"`depth` must be 1 or more. Received: depth={depth}.")
    if heads < 1 or width % heads:
        raise ValueError(
            f"`heads` must divide the width of the tokens, {width}. Received: heads={heads}."
        )
    if positions not in POSITIONS or initializer not in INITIALIZERS:
        raise ValueError(
            f"`positions` must be one of {POSITIONS} and `initializer` one of {INITIALIZERS}. "
            f"Received: positions={positions!r}, initializer={initializer!r}."
        )


def _check_extras(registers: int, drop_path: float, layer_scale: float | None) -> None:
    if registers < 0:
        raise ValueError(f"`registers` must be 0 or more. Received: registers={registers}.")
    if not 0 <= drop_path < 1:
        raise ValueError(f"`drop_path` must be in [0, 1). Received: drop_path={drop_path}.")
    if layer_scale is not None and not layer_scale > 0:
        raise ValueError(
            f"`layer_scale` must be > 0, or None for none. Received: layer_scale={layer_scale}."
        )


def _kernel(initializer: str, fan_in: int, fan_out: int) -> keras.Initializer:
    """Initial values of a kernel; Keras would count the fans of heads and patches otherwise."""
    if initializer == "truncated_normal":
        return _normal()
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return keras.initializers.RandomUniform(-limit, limit)


def _normal() -> keras.Initializer:
    """Standard deviation 0.02: `timm` cuts off at -2 and 2, a hundred of them, and so nothing."""
    return keras.initializers.RandomNormal(stddev=0.02)
