"""Distillation: learn another network's predictions, without labels."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_temperature


def soft_target_cross_entropy(student: Any, teacher: Any, temperature: float = 1.0) -> Any:
    """Cross-entropy of a student's predictions with a teacher's, both softened, times t^2.

    With p = softmax(teacher / t) and q = softmax(student / t),

        L = t^2 / N sum_i ( -sum_c p_ic log q_ic ),

    which is t^2 KL(p || q) and the teacher's entropy, t^2 H(p), a constant. Its gradient in the
    student's logits is t (q - p) / N; none reaches the teacher.

    Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531, section 2 (the factor t^2); Chen
    et al. 2020 (SimCLR v2), https://arxiv.org/abs/2006.10029, section 2, equation 2, with t = 0.1
    for a student of the teacher's size and 1 for a smaller one (section 3.1).
    Departures from the authors' code: none known.

    Of `keras.distillation`, use `Distiller` with this as `loss` of `LogitsDistillation`
    (`recipes/simclr_v2.py`). The loss it has by default compares logits as if they were
    probabilities (Keras 3.15), and its `KLDivergence` cuts probabilities off at 1e-7, below which
    there is no gradient: where the student is most wrong, and soon reached at t = 0.1.

    Args:
        student: logits `(N, classes)`, any floating dtype.
        teacher: logits of the same images, `(N, classes)`.
        temperature: t, > 0.

    Returns:
        float32 scalar, at least t^2 times the mean entropy of the teacher's predictions.

    Raises:
        ValueError: if the logits are not two matrices of one width or `temperature` is not > 0.
    """
    check_temperature(temperature)
    shapes = tuple(student.shape), tuple(teacher.shape)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "`student` and `teacher` must be logits (N, classes) of the same images. "
            f"Received: student.shape={shapes[0]}, teacher.shape={shapes[1]}."
        )
    student, teacher = (ops.cast(x, "float32") / temperature for x in (student, teacher))
    p = ops.stop_gradient(ops.softmax(teacher, axis=-1))
    log_q = ops.log_softmax(student, axis=-1)
    return -(temperature**2) * ops.mean(ops.sum(p * log_q, axis=-1))
