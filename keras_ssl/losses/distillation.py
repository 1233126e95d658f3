"""Distillation: learn another network's predictions, features or similarities, without labels."""

from typing import Any

from keras import ops

from keras_ssl.losses.checks import check_matrices, check_queue, check_temperature
from keras_ssl.ops.similarity import l2_normalize


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


def similarity_cross_entropy(
    student: Any,
    teacher: Any,
    queue: Any,
    temperature: float = 0.2,
    teacher_temperature: float = 1e-4,
) -> Any:
    """Cross-entropy of a student's similarities with its teacher's: the loss of SEED.

    Both compare an image with K earlier images and with itself, always as the teacher sees these.
    With unit vectors s_i and t_i of the student and the teacher, the rows Q_j of the queue, and
    the K + 1 rows V_i = (t_i, Q_1, ..., Q_K),

        p_i = softmax( V_i t_i / teacher_temperature ),    q_i = softmax( V_i s_i / temperature ),
        L = 1/N sum_i ( -sum_j p_ij log q_ij ).

    Its gradient in s_i is V_i^T (q_i - p_i) / (N temperature), before normalisation; none reaches
    teacher and queue. As `teacher_temperature` falls to 0, p_i becomes the image itself and L is
    `info_nce(student, teacher, queue, temperature)`.

    Fang et al. 2021, https://arxiv.org/abs/2101.04731, section 3.2; `seed/builder.py` of the
    authors' code, whose temperatures are the defaults.
    Departures from the authors' code: the queue holds one row a feature here, one column there.

    Args:
        student: `(N, D)`, any floating dtype; normalised here, like the others.
        teacher: `(N, D)`, of the same images.
        queue: `(K, D)`, the teacher's vectors of earlier images.
        temperature: divides the student's similarities, > 0.
        teacher_temperature: divides the teacher's, > 0; small values make it sure of the image
            itself, large ones let it weigh the others.

    Returns:
        float32 scalar, at least the mean entropy of p_i, which it has where the student equals the
        teacher at equal temperatures; log(K + 1) where all vectors are equal.

    Raises:
        ValueError: if a temperature is not positive, student and teacher are not two matrices of
            one shape, or the rows of the queue have another width.
    """
    check_temperature(temperature)
    check_temperature(teacher_temperature, "teacher_temperature", "0.0001 to 0.1")
    check_matrices(student=student, teacher=teacher)
    check_queue(queue, student.shape[-1], like="student")
    student = l2_normalize(student)
    teacher, queue = (ops.stop_gradient(l2_normalize(x)) for x in (teacher, queue))

    def similarities(x):  # (N, 1 + K)
        itself = ops.sum(x * teacher, axis=-1, keepdims=True)
        return ops.concatenate([itself, ops.matmul(x, ops.transpose(queue))], axis=-1)

    p = ops.softmax(similarities(teacher) / teacher_temperature, axis=-1)
    log_q = ops.log_softmax(similarities(student) / temperature, axis=-1)
    return -ops.mean(ops.sum(p * log_q, axis=-1))


def softmax_kl(student: Any, teacher: Any, temperature: float = 0.07) -> Any:
    """Divergence of a student's softmax from its teacher's, a number for each image.

    With p = softmax(teacher / t) and q = softmax(student / t) along the last axis,

        L_i = mean over the rows of image i of KL(p || q) = sum_c p_c (log p_c - log q_c).

    Its gradient in a row of student logits is (q - p) / t, over the number of rows; none reaches
    the teacher. As logits serve similarities to earlier images: Koohpayegani et al. 2020
    (CompRess), https://arxiv.org/abs/2010.14713, section 3.
    Departures from the authors' code: none known.

    Args:
        student: `(N, ..., C)`, any floating dtype.
        teacher: of the same shape.
        temperature: t, > 0.

    Returns:
        float32 `(N,)`, >= 0; 0 where the two differ by a constant a row.

    Raises:
        ValueError: if `temperature` is not > 0 or the shapes differ.
    """
    check_temperature(temperature)
    if len(student.shape) < 2 or tuple(student.shape)[1:] != tuple(teacher.shape)[1:]:
        raise ValueError(
            "`student` and `teacher` must be logits (N, ..., C) of one shape. Received: "
            f"student.shape={tuple(student.shape)}, teacher.shape={tuple(teacher.shape)}."
        )
    student, teacher = (ops.cast(x, "float32") / temperature for x in (student, teacher))
    log_p = ops.stop_gradient(ops.log_softmax(teacher, axis=-1))
    rows = ops.sum(ops.exp(log_p) * (log_p - ops.log_softmax(student, axis=-1)), axis=-1)
    return rows if len(rows.shape) == 1 else ops.mean(rows, axis=tuple(range(1, len(rows.shape))))


def feature_mse(student: Any, teacher: Any) -> Any:
    """Mean squared difference between a student's features and its teacher's.

        L = 1/(N D) sum_i |student_i - teacher_i|^2

    It has the square of the teacher's unit; no gradient reaches the teacher. For directions alone,
    whatever the lengths, take `2 + 2 * negative_cosine(student, teacher)`.
    Departures from a paper: it follows none; the regression of hints in Romero et al. 2015,
    https://arxiv.org/abs/1412.6550, section 2.2, has half the sum over D.

    Args:
        student: `(N, D)`, any floating dtype.
        teacher: `(N, D)`, of the same images.

    Returns:
        float32 scalar, >= 0; the teacher's mean variance where the student predicts its mean.

    Raises:
        ValueError: if the inputs are not two matrices of one shape.
    """
    check_matrices(student=student, teacher=teacher)
    student, teacher = (ops.cast(x, "float32") for x in (student, teacher))
    return ops.mean(ops.square(student - ops.stop_gradient(teacher)))
