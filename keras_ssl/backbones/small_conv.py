"""A small, fast convolutional network for trials on a CPU."""

from collections.abc import Sequence

import keras

from keras_ssl.backbones.backbone import Backbone, check_image_shape, normalization
from keras_ssl.backbones.conv import fan_out_normal
from keras_ssl.layers.norm import batch_norm


def small_conv(
    input_shape: Sequence[int] = (32, 32, 3),
    widths: Sequence[int] = (32, 64, 128, 256),
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    name: str = "small_conv",
) -> Backbone:
    """A plain stack of 3x3 convolution, batch normalisation and ReLU, one for each width.

    The first has stride 1, the others 2: a 32-pixel image ends as a 4x4 map. With the default
    widths it has 388,896 trainable parameters and takes 15 million multiplications for a 32-pixel
    image, about a fortieth of ResNet-18. For experiments in minutes; it follows no paper.
    Padding is Keras' own, which saves the strided convolutions a copy of their input.

    Args:
        input_shape: (H, W, C) of the images. Other sizes can be fed too.
        widths: channels of each convolution; the last is the width of the features.
        mean: subtracted from images in [0, 1], one number or one a channel; None for none.
        std: divides after that; goes with `mean`.
        name: name of the model.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: if there is no width or `input_shape` is not (H, W, C).
    """
    shape = check_image_shape(input_shape)
    if not widths:
        raise ValueError(f"`widths` must hold one number at least. Received: widths={widths}.")
    inputs = keras.Input((None, None, shape[-1]), name="images")
    x = inputs
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Conv2D(
            width,
            3,
            strides=1 if i == 1 else 2,
            padding="same",
            use_bias=False,
            kernel_initializer=fan_out_normal(),
            name=f"stage{i}_conv",
        )(x)
        x = batch_norm(name=f"stage{i}_bn")(x)
        x = keras.layers.ReLU(name=f"stage{i}_relu")(x)
    return Backbone(
        keras.Model(inputs, x, name=f"{name}_network"),
        image_shape=shape,
        preprocessing=normalization(mean, std, shape[-1]),
        name=name,
    )
