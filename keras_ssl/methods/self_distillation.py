"""What the methods with a slow teacher, and those with prototypes, share (DINO, IBOT, SimDINO)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import optimizers
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import is_small, l2_normalize


def projector(method: SSLModel, widths: Sequence[int] = (2048, 2048, 256)) -> keras.Model:
    """DINO's head on the features of `method.backbone`: Dense layers with GELU between them.

    Below 64 px hidden layers are batch-normalised.
    """
    return heads.mlp(
        method.backbone.feature_dim,
        widths,
        hidden_norm=is_small(method.image_shape),
        output_norm=None,
        use_bias=True,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        activation="gelu",
    )


def add_prototypes(method: SSLModel, name: str, width: int, trainable: bool = True) -> Any:
    """A variable of `method`, `method.num_prototypes` vectors of `width` numbers."""
    return method.add_weight(
        shape=(method.num_prototypes, width),
        initializer=keras.initializers.RandomNormal(stddev=0.02),
        trainable=trainable,
        name=name,
    )


def frozen_at_first(method: SSLModel, prototypes: Any) -> Any:
    """`prototypes`, without a gradient during the first `method.freeze_epochs`."""
    # Frozen by a zero gradient, so that one graph serves all steps.
    prototypes = ops.convert_to_tensor(prototypes)
    frozen = method.epoch < method.freeze_epochs
    return ops.where(frozen, ops.stop_gradient(prototypes), prototypes)


def cosines(z: Any, prototypes: Any) -> Any:
    """Cosines with the prototypes, float32 `(..., K)` of unit vectors `(..., D)`."""
    return ops.matmul(z, ops.transpose(l2_normalize(prototypes)))


def teacher_temperature(method: SSLModel) -> Any:
    """From `first_teacher_temperature` to `teacher_temperature` over `temperature_epochs`."""
    last = method.teacher_temperature
    if method.first_teacher_temperature is None or not method.temperature_epochs:
        return last
    share = ops.minimum(1.0, method.epoch / method.temperature_epochs)
    share = ops.where(method.steps_per_epoch > 0, share, 1.0)
    return method.first_teacher_temperature * (1 - share) + last * share


def teacher_decay(method: SSLModel) -> Any:
    """Share of the teacher that is kept after this step: `method.momentum`, to 1 on a cosine."""
    share = method.share_of_run(method.step - 1)  # the optimizer has counted this step already
    return optimizers.cosine_momentum(share, 1, method.momentum)


def follow(teacher: Any, student: Any, decay: Any) -> None:
    """Move a variable of the teacher towards the student's."""
    teacher.assign(decay * teacher + (1 - decay) * student)


def transformer_optimizer(method: SSLModel, total_steps: int, batch_size: int) -> Any:
    """DINO's AdamW: 5e-4 * batch / 256 after 10 epochs of warm-up, along a cosine to 1e-6.

    The warm-up takes a tenth of the run at most. Weight decay from 0.04 to 0.4 along a cosine, not
    on biases and gains; gradients are clipped at 3, each variable's by itself.
    """
    peak, warmup = 5e-4 * batch_size / 256, method.warmup_steps(total_steps)
    schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=min(1e-6, peak))
    decay = keras.optimizers.schedules.CosineDecay(0.04, total_steps, alpha=10.0)
    return optimizers.AdamW(schedule, decay, epsilon=1e-8, clipnorm=3.0)


def check(method: SSLModel) -> None:
    """Raise unless the numbers that DINO and IBOT have in common are in their ranges."""
    if method.num_prototypes < 2:
        raise ValueError(
            f"`num_prototypes` must be >= 2. Received: num_prototypes={method.num_prototypes}."
        )
    for name in ("temperature", "teacher_temperature", "first_teacher_temperature"):
        value = getattr(method, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be > 0. Received: {name}={value}.")
    check_not_negative(method, "temperature_epochs", "freeze_epochs")
    check_shares(method, "momentum", "center_momentum")


def check_not_negative(method: SSLModel, *names: str) -> None:
    """Raise unless these arguments are >= 0."""
    for name in names:
        if not getattr(method, name) >= 0:
            raise ValueError(f"`{name}` must be >= 0. Received: {getattr(method, name)}.")


def check_shares(method: SSLModel, *names: str) -> None:
    """Raise unless these arguments are in [0, 1]."""
    for name in names:
        if not 0 <= getattr(method, name) <= 1:
            raise ValueError(f"`{name}` must be in [0, 1]. Received: {getattr(method, name)}.")
