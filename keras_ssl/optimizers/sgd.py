"""SGD with momentum and L2 in the gradient, plain and with rates adapted layer by layer."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class SGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as PyTorch's, for which the field's settings were tuned.

    For every variable w with gradient g, weight decay d, momentum m and learning rate r:

        g <- g + d w
        v <- m v + g
        w <- w - r v    (nesterov:  w <- w - r (g + m v))

    MoCo, SimSiam, SupCon and DeepCluster decay like this, biases and batch normalisation included.
    Keras' own SGD differs twice: its decay (w <- w - r d w) is decoupled, and so about 1 / (1 - m)
    times weaker for the same d; and r stands inside its velocity, which is another path as soon as
    r changes.

    Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html, in the form of
    `torch.optim.SGD`. Departures from it: no dampening.

    Args:
        learning_rate: float or schedule; MoCo: 0.03 for batches of 256.
        momentum: share of the velocity kept at each step, in [0, 1).
        weight_decay: L2 coefficient, >= 0; MoCo: 1e-4. `exclude_from_weight_decay` of the base
            class exempts variables from it.
        nesterov: whether to step along the gradient and the velocity of the next step.
        fixed_rates: learning rates >= 0 that no schedule changes, by the path of the variable that
            has it; SimSiam: `{v.path: 0.05 for v in predictor.trainable_variables}`. None for none.
        exclude_1d: whether tensors of at most one axis (biases, gamma and beta of batch
            normalisation) have no decay, as in PIRL.
        name: name of the optimizer.
        **kwargs: as `keras.optimizers.Optimizer`: clipping, gradient accumulation, averaging of
            weights.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        fixed_rates: Mapping[str, float] | None = None,
        exclude_1d: bool = False,
        name: str = "sgd",
        **kwargs: Any,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum}.")
        check_weight_decay(weight_decay)
        _check_rates(fixed_rates or {})
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.momentum = momentum
        self.nesterov = nesterov
        self.fixed_rates = dict(fixed_rates or {})
        self.exclude_1d = exclude_1d

    def build(self, variables: list) -> None:
        """Make one velocity for each of `variables`."""
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        paths = [variable.path for variable in variables]
        for path in self.fixed_rates:
            if paths.count(path) != 1:
                raise ValueError(
                    "`fixed_rates` must name variables by paths that are theirs alone. Received: "
                    f"{path!r}, the path of {paths.count(path)} of the variables {paths}. Give the "
                    "networks that hold them different names."
                )
        self._rates = [self.fixed_rates.get(path) for path in paths]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable."""
        weight = ops.cast(variable, "float32")
        exempt = self.exclude_1d and len(variable.shape) <= 1
        decay = self.weight_decay if self._use_weight_decay(variable) and not exempt else 0.0
        fixed = self._rates[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate if fixed is None else fixed, "float32")
        gradient = self._decayed(ops.cast(gradient, "float32"), weight, decay, rate)
        slot = self.velocities[self._get_variable_index(variable)]
        velocity = self.momentum * ops.cast(slot, "float32") + gradient
        step = gradient + self.momentum * velocity if self.nesterov else velocity
        self.assign(slot, ops.cast(velocity, slot.dtype))
        self.assign(variable, ops.cast(weight - rate * step, variable.dtype))

    def _decayed(self, gradient: Any, weight: Any, decay: float, rate: Any) -> Any:
        """The gradient of loss and L2 term together."""
        return gradient + decay * weight

    def _apply_weight_decay(self, variables: list) -> None:
        """Nothing: the base class would decay a second time, decoupled from the gradient."""

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = ("momentum", "nesterov", "fixed_rates", "exclude_1d")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("keras_ssl")
class LARC(SGD):
    """SGD whose gradient is scaled, tensor by tensor, to the norm of the tensor it moves.

    For every tensor w with gradient g, weight decay d, trust coefficient c and learning rate r,
    biases and batch normalisation included,

        q = c |w| / (|g| + d |w| + 1e-8)
        g <- (g + d w) q                  clip=False
        g <- (g + d w) min(q / r, 1)      clip=True: the tensor's rate is q, but at most r

    where |w| > 0 and |g| > 0; elsewhere g is left as it is, without decay. Then `SGD` moves w. A
    tensor whose gradient has been exactly zero from the start (a frozen layer) so stays where it
    is.

    You et al. 2017, https://arxiv.org/abs/1708.03888, algorithm 1, in the forms of NVIDIA's apex:
    scaling, which SwAV and DeepCluster-v2 trained with, and clipping, of solo-learn's LARS and of
    https://github.com/facebookresearch/eb_jepa, both of which leave vectors out. `LARS` takes the
    norm of the sum g + d w instead.
    Departures from apex: none known.

    Args:
        learning_rate: float or schedule; SwAV: 4.8 for batches of 4096, 0.6 for 256.
        momentum: as `SGD`.
        weight_decay: as `SGD`; SwAV: 1e-6.
        trust_coefficient: c above, > 0; 0.02 in the scripts with `clip`.
        clip: whether r is the largest rate of a tensor, and no factor of all.
        exclude_1d: whether tensors of at most one axis (biases, gamma and beta of batch
            normalisation) follow plain SGD with momentum, without decay.
        name: name of the optimizer.
        **kwargs: as `SGD`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        clip: bool = False,
        exclude_1d: bool = False,
        name: str = "larc",
        **kwargs: Any,
    ):
        if not trust_coefficient > 0:
            raise ValueError(
                f"`trust_coefficient` must be > 0. Received: trust_coefficient={trust_coefficient}."
            )
        super().__init__(
            learning_rate, momentum, weight_decay, exclude_1d=exclude_1d, name=name, **kwargs
        )
        self.trust_coefficient, self.clip = trust_coefficient, clip

    def _decayed(self, gradient: Any, weight: Any, decay: float, rate: Any) -> Any:
        if self.exclude_1d and len(weight.shape) <= 1:
            return gradient
        weight_norm = ops.sqrt(ops.sum(ops.square(weight)))
        gradient_norm = ops.sqrt(ops.sum(ops.square(gradient)))
        usable = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        ratio = self.trust_coefficient * weight_norm / (gradient_norm + decay * weight_norm + 1e-8)
        if self.clip:
            # min(q / r, 1), without a division by a rate of 0
            ratio = ops.where(ratio < rate, ratio / ops.where(rate > 0, rate, 1.0), 1.0)
        return ops.where(usable, ratio * (gradient + decay * weight), gradient)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = ("trust_coefficient", "clip")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def check_weight_decay(weight_decay: float) -> None:
    """Raise unless `weight_decay` is a number >= 0."""
    if weight_decay is None or not weight_decay >= 0:
        raise ValueError(
            f"`weight_decay` must be >= 0. Received: weight_decay={weight_decay}. "
            "Pass 0.0 for none."
        )


def _check_rates(rates: Mapping[str, float]) -> None:
    """Raise unless all rates are numbers >= 0."""
    if not all(rate >= 0 for rate in rates.values()):
        raise ValueError(f"`fixed_rates` must be >= 0. Received: fixed_rates={dict(rates)}.")
