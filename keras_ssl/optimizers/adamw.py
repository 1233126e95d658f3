"""AdamW with a rate for each variable, and a weight decay that may change."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, whose learning rate has a factor for each variable.

    For variable i with factor f_i,

        w <- w - f_i rate (Adam's direction + weight_decay w).

    Factors that fall from the output to the images are layer-wise rate decay, for networks that
    are trained already (`backbones.rate_factors`; Clark et al. 2020,
    https://arxiv.org/abs/2003.10555; Bao et al. 2022, https://arxiv.org/abs/2106.08254).

    Args:
        learning_rate: float or schedule.
        weight_decay: decoupled from the gradient, >= 0; or a schedule of the step, as the rate may
            be (DINO: from 0.04 to 0.4).
        factors: one number >= 0 for each variable, in the order of the model's trainable
            variables; None for 1 everywhere.
        exclude_1d: whether tensors of at most one axis (biases, gains of normalisation) have no
            decay.
        name: name of the optimizer.
        **kwargs: as `keras.optimizers.AdamW`.

    Raises:
        ValueError: if a factor is negative, or there are more or fewer than variables.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        weight_decay: Any = 0.0,
        factors: Sequence[float] | None = None,
        exclude_1d: bool = True,
        name: str = "adamw",
        **kwargs: Any,
    ):
        if isinstance(weight_decay, dict):  # of `get_config`
            weight_decay = keras.saving.deserialize_keras_object(weight_decay)
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        if factors is not None and not all(factor >= 0 for factor in factors):
            raise ValueError(f"`factors` must be >= 0. Received: factors={list(factors)}.")
        self.factors = None if factors is None else [float(factor) for factor in factors]
        self.exclude_1d = exclude_1d

    def build(self, variables: list) -> None:
        """Make the moments of `variables`."""
        if self.factors is not None and len(self.factors) != len(variables):
            raise ValueError(
                "`factors` must hold one number for each trainable variable. Received: "
                f"{len(self.factors)} for {len(variables)} variables."
            )
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable."""
        rate = ops.cast(learning_rate, "float32") * self._factor(variable)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables: list) -> None:
        decay = self.weight_decay
        if callable(decay):
            decay = decay(self.iterations)
        for variable in variables:
            spared = self.exclude_1d and len(variable.shape) <= 1
            if self._use_weight_decay(variable) and not spared:
                rate = ops.cast(self.learning_rate, "float32") * self._factor(variable)
                share = ops.cast(rate * decay, variable.dtype)
                variable.assign(variable - variable * share)

    def _factor(self, variable: Any) -> float:
        return 1.0 if self.factors is None else self.factors[self._get_variable_index(variable)]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        decay = self.weight_decay
        if callable(decay):
            decay = keras.saving.serialize_keras_object(decay)
        own = {"weight_decay": decay, "factors": self.factors, "exclude_1d": self.exclude_1d}
        return {**super().get_config(), **own}
