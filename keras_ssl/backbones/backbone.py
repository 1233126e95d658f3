"""The interface that methods need of any network: images in, features out."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones.functional import to_functional
from keras_ssl.backbones.tokens import token_grid, token_prefix
from keras_ssl.layers.dropout import DropPath, dropout_noise, noise_of
from keras_ssl.ops import to_unit_range

POOLINGS = ("avg", "cls", None)
_KINDS = {2: "vector", 3: "tokens", 4: "map"}


@keras.saving.register_keras_serializable("keras_ssl")
class Backbone(keras.Model):
    """A network with its preprocessing before it and pooling after it.

    `backbone(images)` gives one feature vector an image, `backbone.feature_map(images)` one for
    each place. It is built when made, and saves and loads like any Keras model, preprocessing
    included. Features have the dtype that the network's own policy gives them.

    Args:
        network: functional model of one image input whose output is a feature map `(B, h, w, D)`,
            tokens `(B, T, D)` (first the class token, if there is one, then the grid row by row) or
            vectors `(B, D)`.
        image_shape: (H, W, C) of the images that the backbone is made for; None takes the network's
            input shape. A network whose own height and width are None takes other sizes as well
            (multi-crop).
        preprocessing: layer or model from images in [0, 1] to what `network` expects, e.g.
            `normalization(mean, std)`; None hands the images on as they are.
        pooling: `"avg"` (mean over places, class token left out), `"cls"` (the class token) or
            None, which chooses: the mean of a map, the class token of tokens that have one, vectors
            as they are.
        name: name of the model; None takes the network's.
        num_prefix_tokens: number of tokens before those of the grid; None finds out, if it is 1, 5
            or 0.
        **kwargs: as `keras.Model`.

    Raises:
        ValueError: if the network's input or output has another shape, or `pooling` does not fit.
    """

    def __init__(
        self,
        network: keras.Model,
        image_shape: Sequence[int] | None = None,
        preprocessing: keras.Layer | None = None,
        pooling: str | None = None,
        name: str | None = None,
        num_prefix_tokens: int | None = None,
        **kwargs: Any,
    ):
        # No autocast: uint8 images must reach `to_unit_range` as they are, and normalisation is in
        # float32 under every policy.
        super().__init__(name=name or network.name, autocast=False, **kwargs)
        self.network = network
        self.preprocessing = preprocessing
        self.image_shape = _image_shape(network, image_shape)
        shape = network.compute_output_shape((None, *self.image_shape))
        self.kind = _kind(shape, self.image_shape)
        tokens = self.kind == "tokens"
        prefix = token_prefix(shape[1], self.image_shape, num_prefix_tokens) if tokens else 0
        self.num_prefix_tokens = prefix
        self.pooling = _resolve_pooling(pooling, self.kind, prefix)
        self.feature_dim = int(shape[-1])
        if preprocessing is not None and not preprocessing.built:
            preprocessing.build((None, *self.image_shape))
        layers = network._flatten_layers()
        self._drops_paths = any(isinstance(layer, DropPath) for layer in layers)
        self.built = True  # the network is; Keras would build it again with the first images

    @property
    def input_shape(self) -> tuple:
        """(None, H, W, C)."""
        return (None, *self.image_shape)

    @property
    def takes_any_size(self) -> bool:
        """Whether the network leaves height and width open, as multi-crop needs it."""
        return None in self.network.input_shape[1:3]

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Features `(B, feature_dim)` of images `(B, H, W, C)`, uint8 or float in [0, 1]."""
        x = self._forward(images, training)
        if self.kind == "map":
            return ops.mean(x, axis=(1, 2))
        if self.kind == "vector":
            return x
        return (
            x[:, 0] if self.pooling == "cls" else ops.mean(x[:, self.num_prefix_tokens :], axis=1)
        )

    def feature_map(self, images: Any, training: bool | None = None) -> Any:
        """Features before pooling, `(B, h, w, feature_dim)`; tokens are arranged on their grid.

        Raises:
            ValueError: if the network pools by itself and so has no map.
        """
        if self.kind == "vector":
            raise ValueError(
                f"Backbone '{self.name}' has no feature map: its network gives vectors "
                f"(B, {self.feature_dim}). Build the network without its pooling."
            )
        x = self._forward(images, training)
        if self.kind == "map":
            return x
        # Images of another size have another grid; an unknown one is taken to be `image_shape`'s.
        size = [a or b for a, b in zip(tuple(images.shape)[1:3], self.image_shape)]
        patches = x[:, self.num_prefix_tokens :]
        grid = token_grid(patches.shape[1], size) if patches.shape[1] else None
        return ops.reshape(patches, (-1, *(grid or self.token_grid()), self.feature_dim))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """(B, feature_dim)."""
        return (input_shape[0], self.feature_dim)

    def to_functional(self, feature_map: bool = False) -> keras.Model:
        """A copy of this backbone, weights included, as a functional model of Keras' own layers.

        See `keras_ssl.backbones.functional.to_functional`.
        """
        return to_functional(self, feature_map)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "image_shape": list(self.image_shape),
            "preprocessing": serialize(self.preprocessing),
            "pooling": self.pooling,
            "num_prefix_tokens": self.num_prefix_tokens if self.kind == "tokens" else None,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Backbone":
        """A backbone of this config, with fresh weights."""
        config = dict(config)
        for part in ("network", "preprocessing"):
            config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects)
        return cls(**config)

    def _forward(self, images: Any, training: bool | None) -> Any:
        """What the network gives for `images`."""
        shape = tuple(images.shape)
        wanted = tuple(self.network.input_shape)
        fits = len(shape) == 4 and all(
            a is None or b is None or a == b for a, b in zip(shape[1:], wanted[1:])
        )
        if not fits:
            raise ValueError(
                f"`images` of backbone '{self.name}' must have shape (B, {_text(wanted)}). "
                f"Received: images.shape={shape}. Resize them, or build the backbone with "
                "`input_shape` of your images."
            )
        x = self.prepared(images)
        if not (training and self._drops_paths):
            return self.network(x, training=training)
        with dropout_noise(noise_of(images)):
            return self.network(x, training=training)

    def prepared(self, images: Any) -> Any:
        """Images as the network takes them: in [0, 1], then preprocessed."""
        x = to_unit_range(images)
        return x if self.preprocessing is None else self.preprocessing(x)

    def token_grid(self) -> tuple[int, int]:
        """(h, w) of the patch tokens of an image of `image_shape`."""
        tokens = self.network.compute_output_shape(self.input_shape)[1]
        return token_grid(tokens - self.num_prefix_tokens, self.image_shape)


def normalization(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, channels: int
) -> keras.Layer | None:
    """The layer (x - mean) / std in float32, for images in [0, 1]; None if both arguments are None.

    Args:
        mean: number, or one number a channel, in units of images in [0, 1].
        std: the same, > 0.
        channels: number of channels.

    Returns:
        A built layer without weights, or None.

    Raises:
        ValueError: if one of the two is missing, not positive, or of another length.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise ValueError(f"`mean` and `std` come together. Received: mean={mean}, std={std}.")
    means, stds = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
    if not all(s > 0 for s in stds):
        raise ValueError(f"`std` must be > 0. Received: std={std}.")
    layer = keras.layers.Normalization(
        mean=means, variance=[s * s for s in stds], dtype="float32", name="normalization"
    )
    layer.build((None, None, None, channels))
    return layer


def _per_channel(label: str, value: float | Sequence[float], channels: int) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * channels
    if len(values) != channels:
        raise ValueError(
            f"`{label}` must be a number or have one number for each of the {channels} channels. "
            f"Received: {label}={value}."
        )
    return values


def check_image_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """`input_shape` as (H, W, C) of positive integers.

    Raises:
        ValueError: if it is anything else.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(
            "`input_shape` must be (height, width, channels), all positive integers. "
            f"Received: input_shape={input_shape}."
        )
    return shape


def _image_shape(network: keras.Model, image_shape: Sequence[int] | None) -> tuple[int, int, int]:
    own = tuple(network.input_shape)
    if len(own) != 4:
        raise ValueError(f"`network` must take images (B, H, W, C). Received: input shape {own}.")
    shape = tuple(own[1:] if image_shape is None else image_shape)
    if len(shape) != 3 or None in shape:
        raise ValueError(
            f"`image_shape` must be (H, W, C), all known. Received: {shape}, with a network for "
            f"({_text(own)}). Pass `image_shape`, e.g. (224, 224, 3)."
        )
    if any(a is not None and a != b for a, b in zip(own[1:], shape)):
        raise ValueError(
            f"`image_shape` must fit the network, which is made for ({_text(own)}). "
            f"Received: image_shape={shape}. Build the network for these images."
        )
    return tuple(int(side) for side in shape)


def _kind(shape: Any, image_shape: tuple) -> str:
    if not isinstance(shape, tuple) or len(shape) not in _KINDS or shape[-1] is None:
        raise ValueError(
            "`network` must give a feature map (B, h, w, D), tokens (B, T, D) or vectors (B, D), "
            f"with D known. Received: output shape {shape} for images {image_shape}."
        )
    return _KINDS[len(shape)]


def _resolve_pooling(pooling: str | None, kind: str, prefix: int) -> str | None:
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: pooling={pooling!r}.")
    if kind == "vector":
        if pooling is not None:
            raise ValueError(
                "`pooling` must be None for a network that gives vectors. Received: "
                f"pooling={pooling!r}."
            )
        return None
    if pooling == "cls" and not prefix:
        raise ValueError(
            "`pooling='cls'` needs tokens with a class token in front. "
            f"Received: a network that gives {'a map' if kind == 'map' else 'patch tokens only'}. "
            "Use 'avg'."
        )
    return pooling or ("cls" if prefix else "avg")


def _text(shape: tuple) -> str:
    return ", ".join(
        str(side) if side is not None else mark for side, mark in zip(shape[1:], "HWC")
    )
