"""Losses between a student's views and a slow teacher's."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_temperature
from keras_ssl.losses.clustering import cross_view_cross_entropy
from keras_ssl.ops.similarity import l2_normalize


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


def masked_cross_entropy(student: Any, targets: Any, weights: Any, temperature: float = 0.1) -> Any:
    """Cross-entropy at an image's hidden patches: the second loss of iBOT.

        L_i = sum_m w_im H(q_im, s_im) / max(1, sum_m w_im),
        H(q, s) = -sum_k q_k log softmax_k(s / temperature)

    0 for an image without hidden patches. No gradient reaches the targets, nor scores of weight 0.
    Zhou et al. 2021, https://arxiv.org/abs/2111.07832, equation 2. Departures from the authors'
    code: none known.

    Args:
        student: s, scores `(B, M, K)`, any floating dtype.
        targets: q, `(B, M, K)`, rows that sum to 1.
        weights: w, `(B, M)`: 1 where the patch is hidden, else 0.
        temperature: > 0.

    Returns:
        float32 `(B,)`, one number an image; their mean over the global batch is the loss.

    Raises:
        ValueError: if `temperature` is not positive or the shapes do not go together.
    """
    check_temperature(temperature)
    shapes = tuple(student.shape), tuple(targets.shape), tuple(weights.shape)
    if len(shapes[0]) != 3 or len(shapes[1]) != 3 or len(shapes[2]) != 2:
        raise ValueError(
            "`student` and `targets` must have shape (B, M, K), `weights` (B, M). Received: "
            f"shapes {shapes}. One row a patch, one image along the first axis."
        )
    targets = ops.stop_gradient(ops.cast(targets, "float32"))
    log_p = ops.log_softmax(ops.cast(student, "float32") / temperature, axis=-1)
    entropies = -ops.sum(targets * log_p, axis=-1)
    weights = ops.cast(weights, "float32")
    return ops.sum(weights * entropies, axis=-1) / ops.maximum(1.0, ops.sum(weights, axis=-1))


def gram(student: Any, teacher: Any) -> Any:
    """Mean squared difference of the cosines between an image's patches: Gram anchoring.

        L = 1/(B L^2) sum_i |X_i X_i^T - T_i T_i^T|^2,    rows of X_i and T_i of unit length

    What patches are like stays as the teacher has it, while the features may turn as a whole.
    Simeoni et al. 2025 (DINOv3), https://arxiv.org/abs/2508.10104, section 4.2; the mean is that of
    the authors' code, the paper has the sum. Departures from the authors' code: none known.

    Args:
        student: features of the patches `(B, L, D)`, any floating dtype.
        teacher: the same of the teacher, of any width; no gradient reaches them.

    Returns:
        float32 scalar in [0, 4].

    Raises:
        ValueError: if the features are not of as many patches.
    """
    shapes = tuple(student.shape), tuple(teacher.shape)
    if len(shapes[0]) != 3 or len(shapes[1]) != 3 or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "`student` and `teacher` must have shape (B, L, D), features of the same L patches. "
            f"Received: student.shape={shapes[0]}, teacher.shape={shapes[1]}."
        )
    ours, theirs = (
        ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        for x in (l2_normalize(student), ops.stop_gradient(l2_normalize(teacher)))
    )
    return ops.mean(ops.square(ours - theirs))
