"""Adam with L2 in the gradient."""

from typing import Any

import keras
from keras import ops

from keras_ssl.optimizers.sgd import check_weight_decay


@keras.saving.register_keras_serializable("keras_ssl")
class Adam(keras.optimizers.Adam):
    """Keras' Adam, with the weight decay inside the gradient as in `torch.optim.Adam`.

        g <- g + d w,  then Adam's step with g,

    so that the decay enters the moments: the form of papers from before AdamW (BiGAN: 2e-4,
    beta_1 0.5, d = 2.5e-5). The `weight_decay` of Keras' Adam is
    AdamW's, decoupled from the gradient, and is switched off here.

    Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1; Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101, section 2, on the two decays. Departures from PyTorch: epsilon
    is added before the correction of the second moment's bias, as Keras does.

    Args:
        learning_rate: float or schedule.
        weight_decay: d, the L2 coefficient, >= 0.
        exclude_1d: whether tensors of at most one axis (biases, gains of batch normalisation) have
            no decay.
        name: name of the optimizer.
        **kwargs: as `keras.optimizers.Adam`: `beta_1`, `beta_2`, `epsilon`, clipping, ...

    Raises:
        ValueError: if `weight_decay` is negative.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        weight_decay: float = 0.0,
        exclude_1d: bool = False,
        name: str = "adam",
        **kwargs: Any,
    ):
        check_weight_decay(weight_decay)
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.exclude_1d = exclude_1d

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable."""
        spared = self.exclude_1d and len(variable.shape) <= 1
        if self._use_weight_decay(variable) and not spared:
            gradient = gradient + ops.cast(self.weight_decay * variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables: list) -> None:
        """Nothing: the base class would decay a second time, decoupled from the gradient."""

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "exclude_1d": self.exclude_1d}
