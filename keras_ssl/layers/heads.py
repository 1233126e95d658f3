"""Projection heads: small networks on the features, discarded after training."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.layers.norm import batch_norm

_OUTPUT_NORMS = ("scale", "plain", None)
_ACTIVATIONS = {
    "relu": keras.layers.ReLU,
    "gelu": lambda name: keras.layers.Activation("gelu", name=name),
}


def mlp(
    input_dim: int,
    widths: Sequence[int],
    *,
    hidden_norm: bool = True,
    output_norm: str | None = "scale",
    use_bias: bool = False,
    activation: str = "relu",
    kernel_initializer: Any = None,
    name: str = "projector",
) -> keras.Model:
    """A multi-layer perceptron; by default the projector of SimCLR's code.

    Hidden layers are Dense, batch normalisation, ReLU; the last is Dense and, with
    `output_norm="scale"`, batch normalisation that scales but does not shift (a common shift would
    be a direction that all images share). Chen et al. 2020, https://arxiv.org/abs/2002.05709,
    section 4.2; `tf2/model.py` of the authors' code for the details.
    Departures from the authors' code: none known for the papers' heads (below).

    Args:
        input_dim: width of the features.
        widths: width of each Dense layer, the last being the output; SimCLR: (2048, 128), and (512,
            128) for ResNet-18; SimCLR v2: (2048, 2048, 128).
        hidden_norm: whether hidden layers are normalised (MoCo v2: not).
        output_norm: `"scale"` (gamma, no beta), `"plain"` (neither; MoCo v3, SimSiam) or None
            (BYOL, Barlow Twins).
        use_bias: whether the Dense layers have biases (BYOL, MoCo v2).
        activation: of the hidden layers, "relu" or "gelu" (DINO, VISReg).
        kernel_initializer: of the Dense layers; None is SimCLR's normal distribution of standard
            deviation 0.01. Give another one where nothing normalises after the layer.
        name: name of the model and first part of its layers' names.

    Returns:
        A built functional model, `(B, input_dim)` -> `(B, widths[-1])`.

    Raises:
        ValueError: if `widths` is empty or not positive, or `output_norm` or `activation` is
            unknown.
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
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {tuple(_ACTIVATIONS)}. Received: "
            f"activation={activation!r}."
        )
    if kernel_initializer is None:
        kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
    inputs = keras.Input((input_dim,), name=f"{name}_input")
    x = inputs
    for i, width in enumerate(widths, start=1):
        # A clone for each layer: Keras warns when one initializer draws equal numbers twice.
        initializer = keras.initializers.get(kernel_initializer).clone()
        x = keras.layers.Dense(
            width, use_bias=use_bias, kernel_initializer=initializer, name=f"{name}_dense{i}"
        )(x)
        if i == len(widths):
            break
        if hidden_norm:
            x = batch_norm(name=f"{name}_bn{i}")(x)
        x = _ACTIVATIONS[activation](name=f"{name}_{activation}{i}")(x)
    if output_norm is not None:
        x = batch_norm(name=f"{name}_bn{len(widths)}", center=False, scale=output_norm == "scale")(
            x
        )
    return keras.Model(inputs, x, name=name)


def pytorch_uniform() -> keras.Initializer:
    """Kernels within 1 / sqrt(fan in), uniform: how PyTorch's linear layers start."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def plain_mlp(input_dim: int, widths: Sequence[int], name: str = "projector") -> keras.Model:
    """`mlp` with biases, without normalisation: the head of MoCo, SupCon, InstDisc.

    Kernels start as in the authors' code, `pytorch_uniform`; biases start at 0, theirs like the
    kernels.

    Args:
        input_dim: width of the features.
        widths: width of each Dense layer, with ReLU between them, the last being the output.
        name: name of the model and first part of its layers' names.

    Returns:
        A built functional model, `(B, input_dim)` -> `(B, widths[-1])`.

    Raises:
        ValueError: as `mlp`.
    """
    return mlp(
        input_dim,
        widths,
        hidden_norm=False,
        output_norm=None,
        use_bias=True,
        kernel_initializer=pytorch_uniform(),
        name=name,
    )


def chain(x: Any, *networks: keras.Model, training: bool = False) -> Any:
    """Pass `x` through networks one after the other: `projector(backbone(x))` and the like."""
    for network in networks:
        x = network(x, training=training)
    return x


def chain_views(views: Sequence[Any], *networks: keras.Model, training: bool = False) -> list:
    """Pass the views of images through networks one after the other, those of one size together.

    Views of one size are one batch, for batch normalisation too.

    Args:
        views: tensors `(n, height, width, channels)`, in any order of sizes.
        *networks: as for `chain`.
        training: as for `chain`.

    Returns:
        The last network's outputs of each view, in the order of the views.
    """
    places = {}  # views by size
    for v, view in enumerate(views):
        places.setdefault(tuple(view.shape[1:3]), []).append(v)
    outputs = [None] * len(views)
    for same in places.values():
        joint = ops.concatenate([views[v] for v in same])
        for v, own in zip(same, ops.split(chain(joint, *networks, training=training), len(same))):
            outputs[v] = own
    return outputs


def check_views(method: str, views: Sequence[Any], maker: str) -> None:
    """Raise unless `views` are two or more; `maker` is the pipeline of `keras_ssl.views`."""
    if len(views) < 2:
        raise ValueError(
            f"{method} needs two views at least. Received: {len(views)}. Make the batch with "
            f"`keras_ssl.views.{maker}(image_size)`."
        )


def check_output(name: str, network: keras.Model, shape: Sequence[int], fix: str) -> None:
    """Raise unless `network`, the argument `name`, gives `shape` an image; `fix` is the advice."""
    if tuple(network.output_shape[1:]) != tuple(shape):
        raise ValueError(
            f"`{name}` must give {tuple(shape)} an image. Received: a model that gives "
            f"{tuple(network.output_shape[1:])}. {fix}"
        )


def first_layers(projector: keras.Model, layers: int) -> keras.Model:
    """The first hidden layers of a head, including their ReLU: features to fine-tune from.

    Chen et al. 2020 (SimCLR v2), https://arxiv.org/abs/2006.10029, sections 2 and 3.3: with few
    labels, fine-tuning from the middle of the head beats fine-tuning from its input. The number is
    `ft_proj_selector` of the authors' code.
    Departures from the authors' code: the rest of the head is left out, theirs is kept and idle.

    Args:
        projector: functional or sequential head whose hidden layers end in `keras.layers.ReLU`, as
            those of `mlp`.
        layers: how many to keep, from 0 (the features as they are) to the number of hidden layers.

    Returns:
        A functional model `(B, input_dim)` -> `(B, width)` that shares the projector's weights.

    Raises:
        ValueError: if `layers` is out of range.
    """
    ends = [layer for layer in projector.layers if isinstance(layer, keras.layers.ReLU)]
    if not 0 <= layers <= len(ends):
        raise ValueError(
            f"`layers` must be from 0 to {len(ends)}, the number of ReLU layers of "
            f"'{projector.name}'. Received: layers={layers}."
        )
    outputs = ends[layers - 1].output if layers else projector.inputs[0]
    return keras.Model(projector.inputs[0], outputs, name=f"{projector.name}_first{layers}")
