"""Layer-wise adaptive rate scaling, the optimizer of large batches."""

from typing import Any

import keras
from keras import ops

_VELOCITIES = ("gradient", "update")


@keras.saving.register_keras_serializable("keras_ssl")
class LARS(keras.optimizers.Optimizer):
    """Momentum whose step, for each weight tensor, is in proportion to the norm of that tensor.

    For a tensor w with gradient g, weight decay d, trust coefficient c, momentum m and learning
    rate r:

        g <- g + d w
        q  = c |w| / |g|  if both norms are > 0, else 1
        velocity="gradient":  v <- m v + q g;    w <- w - r v   (A: MoCo v3, Barlow Twins, VICReg)
        velocity="update":    v <- m v + r q g;  w <- w - v     (S: SimCLR)

    The two agree while r is constant and differ when it changes. Tensors of one axis or none
    (biases, gamma and beta of batch normalisation) have no decay and q = 1: plain SGD with
    momentum. For all other tensors the scale of the loss cancels.

    You et al. 2017, https://arxiv.org/abs/1708.03888; the form is that of the authors' code of the
    methods named above. Weight decay is added to the gradient; that of Keras' own optimizers is
    decoupled from it, and is switched off here.
    Departures from SimCLR's code: tensors are excluded by rank here, by name there.

    Args:
        learning_rate: float or schedule; that of SGD times about 100 to 1000, as the trust ratio is
            small. SimCLR: 0.3 * batch / 256.
        momentum: share of the velocity kept at each step, in [0, 1).
        weight_decay: L2 coefficient, >= 0; `exclude_from_weight_decay` of the base class exempts
            tensors from it.
        trust_coefficient: c above, > 0.
        velocity: what the velocity accumulates, `"gradient"` or `"update"`.
        exclude_1d: whether tensors of at most one axis follow plain SGD with momentum.
        name: name of the optimizer.
        **kwargs: as `keras.optimizers.Optimizer`: clipping, gradient accumulation, averaging of
            weights.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        velocity: str = "gradient",
        exclude_1d: bool = True,
        name: str = "lars",
        **kwargs: Any,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum}.")
        if weight_decay is None or weight_decay < 0:
            raise ValueError(
                f"`weight_decay` must be >= 0. Received: weight_decay={weight_decay}. "
                "Pass 0.0 for none."
            )
        if not trust_coefficient > 0:
            raise ValueError(
                f"`trust_coefficient` must be > 0. Received: trust_coefficient={trust_coefficient}."
            )
        if velocity not in _VELOCITIES:
            raise ValueError(
                f"`velocity` must be one of {_VELOCITIES}. Received: velocity={velocity!r}."
            )
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.velocity = velocity
        self.exclude_1d = exclude_1d

    def build(self, variables: list) -> None:
        """Make one velocity for each of `variables`."""
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable."""
        weight = ops.cast(variable, "float32")
        gradient = ops.cast(gradient, "float32")
        rate = ops.cast(learning_rate, "float32")
        if not (self.exclude_1d and len(variable.shape) <= 1):
            gradient = self._adapt(gradient, weight, self._use_weight_decay(variable))
        slot = self.velocities[self._get_variable_index(variable)]
        gain = rate if self.velocity == "update" else 1.0
        new = self.momentum * ops.cast(slot, "float32") + gain * gradient
        step = new if self.velocity == "update" else rate * new
        self.assign(slot, ops.cast(new, slot.dtype))
        self.assign(variable, ops.cast(weight - step, variable.dtype))

    def _adapt(self, gradient: Any, weight: Any, decay: bool) -> Any:
        """Add the decay and scale by the trust ratio."""
        if decay:
            gradient = gradient + self.weight_decay * weight
        weight_norm = ops.sqrt(ops.sum(ops.square(weight)))
        gradient_norm = ops.sqrt(ops.sum(ops.square(gradient)))
        # The division is by a safe number in both branches, as `where` computes both.
        usable = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        ratio = self.trust_coefficient * weight_norm / ops.where(usable, gradient_norm, 1.0)
        return ops.where(usable, ratio, 1.0) * gradient

    def _apply_weight_decay(self, variables: list) -> None:
        """Nothing: the base class would decay a second time, decoupled from the gradient."""

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = ("momentum", "trust_coefficient", "velocity", "exclude_1d")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
