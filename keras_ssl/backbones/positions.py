"""The class token and the positions of a sequence of patches."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.ops.positions import sincos_positions

POSITIONS = ("learned", "sincos")


@keras.saving.register_keras_serializable("keras_ssl")
class ClassTokenAndPositions(keras.layers.Layer):
    """From a map of patches to a sequence: class token, registers, then the rows, plus positions.

    A map of another size gets positions resized bicubically; the class token keeps its own.
    Registers (Darcet et al. 2023, https://arxiv.org/abs/2309.16588) are learned tokens without a
    position, where the network may keep what belongs to no place.

    Args:
        grid: (h, w) that there are positions for.
        positions: `"learned"`, or `"sincos"`: those of `sincos_positions`, 0 for the class token,
            not trained.
        stddev: standard deviation of the class token's initial values.
        registers: number of register tokens; they start with standard deviation 1e-6, as DINOv2's.
        **kwargs: as `keras.layers.Layer`.
    """

    def __init__(
        self,
        grid: Sequence[int],
        positions: str = "learned",
        stddev: float = 0.02,
        registers: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.grid, self.kind, self.stddev = tuple(grid), positions, stddev
        self.num_registers = registers

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the class token and the positions."""
        width, (rows, columns) = input_shape[-1], self.grid
        token = keras.initializers.RandomNormal(stddev=self.stddev)
        self.class_token = self.add_weight((1, 1, width), token, name="class_token")
        shape, learned = (1, 1 + rows * columns, width), self.kind == "learned"
        start = keras.initializers.RandomNormal(stddev=0.02) if learned else self._fixed
        self.positions = self.add_weight(shape, start, trainable=learned, name="positions")
        if self.num_registers:
            start = keras.initializers.RandomNormal(stddev=1e-6)
            self.registers = self.add_weight(
                (1, self.num_registers, width), start, name="registers"
            )

    def call(self, patches: Any) -> Any:
        """Tokens `(B, 1 + registers + h w, D)` of a map `(B, h, w, D)`."""
        width = patches.shape[-1]
        first = self._prefix()
        first = ops.broadcast_to(first, (ops.shape(patches)[0], first.shape[1], width))
        patches = patches + self._patch_positions(tuple(patches.shape[1:3]))
        patches = ops.reshape(patches, (ops.shape(patches)[0], -1, width))
        return ops.concatenate([first, patches], axis=1)

    def _prefix(self) -> Any:
        token = self.class_token + self.positions[:, :1]
        return ops.concatenate([token, self.registers], axis=1) if self.num_registers else token

    # An initializer: the table is a constant of the class token (zeros) and the waves.
    def _fixed(self, shape: Sequence[int], dtype: Any = None) -> Any:
        table = sincos_positions(self.grid, shape[-1])
        return ops.convert_to_tensor(np.pad(table, ((1, 0), (0, 0)))[None], dtype)

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
        """(B, 1 + registers + h w, D)."""
        batch, rows, columns, width = input_shape
        known = rows is not None and columns is not None
        return (batch, 1 + self.num_registers + rows * columns if known else None, width)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"grid": list(self.grid), "positions": self.kind, "stddev": self.stddev}
        return {**super().get_config(), **own, "registers": self.num_registers}

    def core_layer(self) -> keras.Layer:
        """The same computation for a map of the size of `grid`, in Keras' own layers.

        Zero tokens are put first; then the product with ones leaves every token as it is and the
        bias, one for each place, adds class token, registers and positions.
        """
        rows, columns = self.grid
        width, first = self.positions.shape[-1], 1 + self.num_registers
        return keras.Sequential(
            [
                keras.layers.Reshape((-1, width), name="rows", dtype=self.dtype_policy),
                keras.layers.ZeroPadding1D(
                    (first, 0), name="place_of_class", dtype=self.dtype_policy
                ),
                keras.layers.EinsumDense(
                    "btd,d->btd",
                    output_shape=(first + rows * columns, width),
                    bias_axes="td",
                    dtype=self.dtype_policy,
                    name="positions",
                ),
            ],
            name=self.name,
        )

    def core_weights(self) -> list:
        """Weights of `core_layer` that equal this layer's."""
        first, patches = (
            ops.convert_to_numpy(x)[0] for x in (self._prefix(), self.positions[:, 1:])
        )
        bias = np.concatenate([first, patches])
        return [np.ones(bias.shape[-1], bias.dtype), bias]
