"""Vision transformers of DeiT's sizes.

Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; sizes of Touvron et al. 2021 (DeiT),
https://arxiv.org/abs/2012.12877, table 1. Pre-norm blocks, a class token, learned positions, a
final norm; no dropout. Kernels, class token and positions start as normal numbers of standard
deviation 0.02, cut at two deviations. Departures from DeiT's code: the kernel of the patches starts
like the others; no stochastic depth.

Parameters at 224 pixels and patch 16, without a classifier: vit_tiny 5,524,416,
vit_small 21,665,664, vit_base 85,798,656.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones.backbone import Backbone, check_image_shape, normalization


def vit_tiny(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    pooling: str = "cls",
    mean: float | Sequence[float] | None = 0.5,
    std: float | Sequence[float] | None = 0.25,
    name: str = "vit_tiny",
) -> Backbone:
    """ViT-Ti: 12 blocks of width 192 with 3 heads.

    Args:
        input_shape: (H, W, C) of the images, sides divisible by the patch. Other sizes can be fed
            too: positions are then resized bicubically, as in DINO's code.
        patch_size: side of a patch in pixels; None: 16 if both sides are 96 or more, else 4.
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
    return _vit(192, 3, input_shape, patch_size, pooling, mean, std, name)


def vit_small(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    pooling: str = "cls",
    mean: float | Sequence[float] | None = 0.5,
    std: float | Sequence[float] | None = 0.25,
    name: str = "vit_small",
) -> Backbone:
    """ViT-S: 12 blocks of width 384 with 6 heads. Arguments as `vit_tiny`."""
    return _vit(384, 6, input_shape, patch_size, pooling, mean, std, name)


def vit_base(
    input_shape: Sequence[int] = (224, 224, 3),
    patch_size: int | None = None,
    *,
    pooling: str = "cls",
    mean: float | Sequence[float] | None = 0.5,
    std: float | Sequence[float] | None = 0.25,
    name: str = "vit_base",
) -> Backbone:
    """ViT-B: 12 blocks of width 768 with 12 heads. Arguments as `vit_tiny`."""
    return _vit(768, 12, input_shape, patch_size, pooling, mean, std, name)


def _vit(
    width: int,
    heads: int,
    input_shape: Sequence[int],
    patch_size: int | None,
    pooling: str,
    mean: Any,
    std: Any,
    name: str,
) -> Backbone:
    height, image_width, channels = check_image_shape(input_shape)
    if patch_size is None:
        patch_size = 16 if min(height, image_width) >= 96 else 4
    if patch_size < 1 or height % patch_size or image_width % patch_size:
        raise ValueError(
            "`patch_size` must divide both sides of the image. "
            f"Received: patch_size={patch_size}, input_shape={tuple(input_shape)}."
        )
    inputs = keras.Input((None, None, channels), name="images")
    x = keras.layers.Conv2D(
        width, patch_size, patch_size, kernel_initializer=_normal(), name="patches"
    )(inputs)
    grid = (height // patch_size, image_width // patch_size)
    x = ClassTokenAndPositions(grid, name="tokens")(x)
    for i in range(1, 13):
        x = _block(x, width, heads, f"block{i}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return Backbone(
        keras.Model(inputs, x, name=f"{name}_network"),
        image_shape=(height, image_width, channels),
        preprocessing=normalization(mean, std, channels),
        pooling=pooling,
        name=name,
    )


def _block(x: Any, width: int, heads: int, name: str) -> Any:
    layers = keras.layers
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(
        heads, width // heads, kernel_initializer=_normal(), name=f"{name}_attention"
    )(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(4 * width, kernel_initializer=_normal(), name=f"{name}_mlp1")(y)
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)  # exact, not the tanh approximation
    y = layers.Dense(width, kernel_initializer=_normal(), name=f"{name}_mlp2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def _normal() -> keras.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


@keras.saving.register_keras_serializable("keras_ssl")
class ClassTokenAndPositions(keras.layers.Layer):
    """From a map of patches to a sequence: class token, then the rows, plus learned positions.

    A map of another size gets positions resized bicubically; the class token keeps its own.

    Args:
        grid: (h, w) that positions are learned for.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, grid: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the class token and the positions."""
        width, (rows, columns) = input_shape[-1], self.grid
        self.class_token = self.add_weight((1, 1, width), _normal(), name="class_token")
        shape = (1, 1 + rows * columns, width)
        self.positions = self.add_weight(shape, _normal(), name="positions")

    def call(self, patches: Any) -> Any:
        """Tokens `(B, 1 + h w, D)` of a map `(B, h, w, D)`."""
        width = patches.shape[-1]
        token = self.class_token + self.positions[:, :1]
        token = ops.broadcast_to(token, (ops.shape(patches)[0], 1, width))
        patches = patches + self._patch_positions(tuple(patches.shape[1:3]))
        patches = ops.reshape(patches, (ops.shape(patches)[0], -1, width))
        return ops.concatenate([token, patches], axis=1)

    def _patch_positions(self, size: tuple) -> Any:
        width = self.positions.shape[-1]
        positions = ops.reshape(self.positions[:, 1:], (1, *self.grid, width))
        if None in size or size == self.grid:
            return positions
        # Half precision would round the positions; images are resized in float32.
        resized = ops.image.resize(
            ops.cast(positions, "float32"), size, "bicubic", data_format="channels_last"
        )
        return ops.cast(resized, positions.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """(B, 1 + h w, D)."""
        batch, rows, columns, width = input_shape
        known = rows is not None and columns is not None
        return (batch, 1 + rows * columns if known else None, width)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "grid": list(self.grid)}

    def core_layer(self) -> keras.Layer:
        """The same computation for a map of the size of `grid`, in Keras' own layers.

        A zero token is put first; then the product with ones leaves every token as it is and the
        bias, one for each place, adds class token and positions.
        """
        rows, columns = self.grid
        width, tokens = self.positions.shape[-1], 1 + rows * columns
        return keras.Sequential(
            [
                keras.layers.Reshape((-1, width), name="rows", dtype=self.dtype_policy),
                keras.layers.ZeroPadding1D((1, 0), name="place_of_class", dtype=self.dtype_policy),
                keras.layers.EinsumDense(
                    "btd,d->btd",
                    output_shape=(tokens, width),
                    bias_axes="td",
                    dtype=self.dtype_policy,
                    name="positions",
                ),
            ],
            name=self.name,
        )

    def core_weights(self) -> list:
        """Weights of `core_layer` that equal this layer's."""
        token, positions = (
            ops.convert_to_numpy(self.class_token),
            ops.convert_to_numpy(self.positions),
        )
        bias = positions[0].copy()
        bias[0] += token[0, 0]
        return [ops.convert_to_numpy(ops.ones((bias.shape[-1],))), bias]
