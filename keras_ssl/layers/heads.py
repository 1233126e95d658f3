"""Projection heads: small networks on the features, thrown away after training."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.layers.norm import batch_norm

_OUTPUT_NORMS = ("scale", "plain", None)


def mlp(
    input_dim: int,
    widths: Sequence[int],
    *,
    hidden_norm: bool = True,
    output_norm: str | None = "scale",
    use_bias: bool = False,
    kernel_initializer: Any = None,
    name: str = "projector",
) -> keras.Model:
    """A multi-layer perceptron; by default the projector of SimCLR's code.

    Hidden layers are Dense, batch normalisation, ReLU; the last is Dense and, with
    `output_norm="scale"`, batch normalisation that scales but does not shift (a common shift would
    be a direction that all images share). Chen et al. 2020, https://arxiv.org/abs/2002.05709,
    section 4.2; `tf2/model.py` of the authors' code for the details.
    Departures from the authors' code: none known for `widths` of two numbers, the paper's head.

    Args:
        input_dim: width of the features.
        widths: width of each Dense layer, the last being the output; SimCLR: (2048, 128), and (512,
            128) for ResNet-18.
        hidden_norm: whether hidden layers are normalised (MoCo v2: not).
        output_norm: `"scale"` (gamma, no beta), `"plain"` (neither; MoCo v3, SimSiam) or None
            (BYOL, Barlow Twins).
        use_bias: whether the Dense layers have biases (BYOL, MoCo v2).
        kernel_initializer: of the Dense layers; None is SimCLR's normal distribution of standard
            deviation 0.01. Give another one where nothing normalises after the layer.
        name: name of the model and first part of its layers' names.

    Returns:
        A built functional model, `(B, input_dim)` -> `(B, widths[-1])`.

    Raises:
        ValueError: if a width is not positive, there is none, or `output_norm` is not known.
    """
    widths = tuple(widths)
    if not widths or min(input_dim, *widths) < 1:
        raise ValueError(
            "`input_dim` and `widths` must be positive, with one width at least. "
            f"Received: input_dim={input_dim}, widths={widths}."
        )
    if output_norm not in _OUTPUT_NORMS:
        raise ValueError(
            f"`output_norm` must be one of {_OUTPUT_NORMS}. Received: output_norm={output_norm!r}."
        )
    if kernel_initializer is None:
        kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
    inputs = keras.Input((input_dim,), name=f"{name}_input")
    x = inputs
    for i, width in enumerate(widths, start=1):
        initializer = keras.initializers.get(kernel_initializer).clone()
        x = keras.layers.Dense(
            width, use_bias=use_bias, kernel_initializer=initializer, name=f"{name}_dense{i}"
        )(x)
        if i == len(widths):
            break
        if hidden_norm:
            x = batch_norm(name=f"{name}_bn{i}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
    if output_norm is not None:
        x = batch_norm(name=f"{name}_bn{len(widths)}", center=False, scale=output_norm == "scale")(
            x
        )
    return keras.Model(inputs, x, name=name)
