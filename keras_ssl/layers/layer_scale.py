"""A learned factor for each channel of a branch."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class LayerScale(keras.layers.Layer):
    """y = gamma * x with a factor for each channel, of tokens `(B, T, D)`.

    Touvron et al. 2021 (CaiT), https://arxiv.org/abs/2103.17239, section 2.

    Args:
        value: initial value of gamma.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(self, value: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.value = value

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the factors."""
        start = keras.initializers.Constant(self.value)
        self.gamma = self.add_weight((input_shape[-1],), start, name="gamma")

    def call(self, x: Any) -> Any:
        """Scaled tokens."""
        return x * self.gamma

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "value": self.value}

    def core_layer(self) -> keras.Layer:
        """The same computation in Keras' own layers: a convolution channel by channel."""
        return keras.layers.DepthwiseConv1D(
            1, use_bias=False, data_format="channels_last", dtype=self.dtype_policy, name=self.name
        )

    def core_weights(self) -> list:
        """Weights of `core_layer` that equal this layer's."""
        return [ops.convert_to_numpy(self.gamma)[None, :, None]]
