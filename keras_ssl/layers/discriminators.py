"""Discriminators of pairs: is (image, latent) from the encoder or from the generator?"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.layers.decoders import num_stages
from keras_ssl.layers.spectral_norm import SpectralConv2D, SpectralDense

_FIRST_WIDTH, _LARGEST_WIDTH = 64, 512


def pair_discriminator(
    image_shape: Sequence[int],
    latent_dim: int,
    widths: Sequence[int] | None = None,
    hidden: int = 512,
    name: str = "discriminator",
) -> keras.Model:
    """A joint discriminator: one network for the image, one for the latent, one for both.

        x -> 2 x - 1 -> [ conv 4x4, stride 2 -> leaky ReLU ] for each width -> Dense hidden
        z -> Dense hidden -> Dense hidden
        (x, z) -> Dense hidden -> Dense 1

    Leaky ReLU of slope 0.2 after each layer but the last. All kernels are divided by their spectral
    norm and there is no batch normalisation, so a pair's logit depends on that pair alone. Dumoulin
    et al. 2017 (ALI), https://arxiv.org/abs/1606.00704, appendix A, for the form; Miyato et al.
    2018, https://arxiv.org/abs/1802.05957, for the normalisation.

    Args:
        image_shape: (H, W, C) of the images.
        latent_dim: width of z.
        widths: channels of the convolutions; by default they double from 64 (to 512 at most), and
            go on while at least 4 places a side are left: (64, 128, 256) at 32 px.
        hidden: width of the Dense layers.
        name: name of the model.

    Returns:
        A built functional model, `[(B, H, W, C) in [0, 1], (B, latent_dim)]` -> float32 logits
        `(B, 1)`, large for a real image with its encoding.
    """
    if widths is None:
        stages = max(1, num_stages(min(image_shape[:2])))
        widths = [min(_LARGEST_WIDTH, _FIRST_WIDTH * 2**i) for i in range(stages)]
    images = keras.Input(tuple(image_shape), name=f"{name}_images")
    latents = keras.Input((latent_dim,), name=f"{name}_latents")
    x = keras.layers.Rescaling(2.0, offset=-1.0, name=f"{name}_rescale")(images)
    for i, width in enumerate(widths, start=1):
        conv = SpectralConv2D(width, 4, strides=2, name=f"{name}_conv{i}")
        x = _leaky(conv(x), f"{name}_conv{i}")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    x = _dense(x, hidden, f"{name}_image_dense")
    z = _dense(latents, hidden, f"{name}_latent_dense1")
    z = _dense(z, hidden, f"{name}_latent_dense2")
    both = keras.layers.Concatenate(name=f"{name}_pair")([x, z])
    both = _dense(both, hidden, f"{name}_pair_dense")
    logits = SpectralDense(1, name=f"{name}_logit")(both)
    logits = keras.layers.Activation("linear", dtype="float32", name=f"{name}_logits")(logits)
    return keras.Model([images, latents], logits, name=name)


def _dense(x: Any, units: int, name: str) -> Any:
    return _leaky(SpectralDense(units, name=name)(x), name)


def _leaky(x: Any, name: str) -> Any:
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)
