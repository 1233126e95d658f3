"""Losses between a student's views and a slow teacher's."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_temperature
from keras_ssl.losses.clustering import cross_view_cross_entropy


def dino(
    student: Sequence[Any],
    teacher: Sequence[Any],
    center: Any,
    teacher_temperature: Any = 0.04,
    temperature: float = 0.1,
) -> Any:
    """Cross-entropy of the student's views and the teacher's other views: the loss of DINO.

    With scores s_u of the student for U views and t_v of the teacher for the first V of them,

        L = 1/P sum_v sum_{u != v} H(q_v, s_u),    q_v = softmax((t_v - c) / teacher_temperature),
        H(q, s) = -1/B sum_i sum_k q_ik log softmax_k(s_i / temperature),    P = V (U - 1).

    Subtracting the centre c keeps one prototype from taking all images, the low temperature keeps
    the targets from becoming uniform. Teacher and centre get no gradient. Caron et al. 2021,
    https://arxiv.org/abs/2104.14294, section 3.1. Departures from the authors' code: none known.

    Args:
        student: U scores `(B, K)`, any floating dtype, U >= 2; the teacher's views first.
        teacher: V scores `(B, K)`, 1 <= V <= U.
        center: c, `(K,)` or `(1, K)`.
        teacher_temperature: > 0, a number or a scalar tensor.
        temperature: the student's, > 0.

    Returns:
        float32 scalar, at least the mean entropy of the q_v; log K where no scores tell prototypes
        apart.

    Raises:
        ValueError: if a temperature is not positive, or the scores are not matrices of one shape.
    """
    targets = [dino_targets(t, center, teacher_temperature) for t in teacher]
    return cross_view_cross_entropy(targets, student, temperature)


def dino_targets(teacher: Any, center: Any, temperature: Any = 0.04) -> Any:
    """softmax((teacher - center) / temperature), float32 `(B, K)`, without gradient; see `dino`."""
    if isinstance(temperature, int | float):
        check_temperature(temperature, "teacher_temperature", "0.04 to 0.07")
    scores = ops.cast(teacher, "float32") - ops.cast(center, "float32")
    return ops.stop_gradient(ops.softmax(scores / temperature))
