"""Discriminators of pairs: is (image, latent) from the encoder or from the generator?"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.layers.decoders import num_stages
from keras_ssl.layers.norm import batch_norm

_FIRST_WIDTH, _LARGEST_WIDTH = 64, 512
_KERNEL_SIZE = 5


def pair_discriminator(
    image_shape: Sequence[int],
    latent_dim: int,
    widths: Sequence[int] | None = None,
    hidden: int | None = 1024,
    name: str = "discriminator",
) -> keras.Model:
    """A joint discriminator: the latent enters every layer but the first, before it is normalised.

        h_1 = f(conv x'),    h_i = f(BN(conv h_{i-1} + z V_i)),    d = f(BN(h_n W + z V)),    d w

    with x' = 2 x - 1, convolutions 5x5 of stride 2, z V_i added at every place of the maps, f leaky
    ReLU of slope 0.2, and d one Dense layer on the flattened maps. BN has gain and offset; there
    are no other biases. In training a pair's logit depends on all pairs of the call by the batch's
    statistics, so real and fake pairs are to be passed in two calls.

    Donahue et al. 2017, https://arxiv.org/abs/1605.09782; `net.py` of the authors' code
    (`convnet_28`; `convnet_64` is without the Dense layer). Departures from it: Glorot's initial
    kernels (theirs: N(0, 0.02^2), but the last at 0 and the V_i at 0.5, beside which the first maps
    are so small that logits do not depend on the image for hundreds of steps); constants of
    `batch_norm`.

    Args:
        image_shape: (H, W, C) of the images.
        latent_dim: width of z.
        widths: channels of the convolutions; by default they double from 64 (to 512 at most), and
            go on while at least 4 places a side are left: (64, 128, 256) at 32 px.
        hidden: width of the Dense layer; None for none.
        name: name of the model.

    Returns:
        A built functional model, `[(B, H, W, C) in [0, 1], (B, latent_dim)]` -> float32 logits
        `(B, 1)`, large for a real image with its encoding.

    Raises:
        ValueError: if a size is not positive, or z would enter nowhere.
    """
    if widths is None:
        stages = max(1, num_stages(min(image_shape[:2])))
        widths = [min(_LARGEST_WIDTH, _FIRST_WIDTH * 2**i) for i in range(stages)]
    _check(latent_dim, widths, hidden)
    images = keras.Input(tuple(image_shape), name=f"{name}_images")
    z = keras.Input((latent_dim,), name=f"{name}_latents")
    x = keras.layers.Rescaling(2.0, offset=-1.0, name=f"{name}_rescale")(images)
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Conv2D(
            width,
            _KERNEL_SIZE,
            strides=2,
            padding="same",
            use_bias=False,
            name=f"{name}_conv{i}",
        )(x)
        if i > 1:
            x = _add_latent(x, z, f"{name}_conv{i}")
        x = _leaky(x, f"{name}_conv{i}")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    if hidden is not None:
        x = _add_latent(_dense(x, hidden, f"{name}_dense"), z, f"{name}_dense")
        x = _leaky(x, f"{name}_dense")
    logits = _dense(x, 1, f"{name}_logit")
    logits = keras.layers.Activation("linear", dtype="float32", name=f"{name}_logits")(logits)
    return keras.Model([images, z], logits, name=name)


def _check(latent_dim: int, widths: Sequence[int], hidden: int | None) -> None:
    sizes = [latent_dim, *widths] + ([] if hidden is None else [hidden])
    if not widths or min(sizes) < 1:
        raise ValueError(
            "`latent_dim`, `widths` and `hidden` must be positive, with one width at least. "
            f"Received: latent_dim={latent_dim}, widths={widths}, hidden={hidden}."
        )
    if len(widths) == 1 and hidden is None:
        raise ValueError(
            "z enters from the second layer on, so there must be two `widths` or a `hidden` layer. "
            f"Received: widths={widths}, hidden=None."
        )


def _add_latent(x: Any, z: Any, name: str) -> Any:
    """BN(x + z V), with z V added at every place of `x`."""
    latent = _dense(z, x.shape[-1], f"{name}_latent")
    if len(x.shape) == 4:
        latent = keras.layers.Reshape((1, 1, x.shape[-1]), name=f"{name}_latent_map")(latent)
    return batch_norm(name=f"{name}_bn")(keras.layers.Add(name=f"{name}_pair")([x, latent]))


def _dense(x: Any, units: int, name: str) -> Any:
    return keras.layers.Dense(units, use_bias=False, name=name)(x)


def _leaky(x: Any, name: str) -> Any:
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)
