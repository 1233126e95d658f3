"""Distillation: value and gradient where they are known."""

import numpy as np
import pytest
from losses.test_contrastive import gradients

from keras_ssl.losses import (
    feature_mse,
    info_nce,
    negative_cosine,
    similarity_cross_entropy,
    soft_target_cross_entropy,
    softmax_kl,
)

TEMPERATURES = [0.1, 1.0, 4.0]


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_value_and_gradient_in_closed_form(logits, t):
    student, teacher = logits
    p, q = softmax(teacher / t), softmax(student / t)
    value, (to_student, to_teacher) = gradients(
        lambda s, u: soft_target_cross_entropy(s, u, t), student, teacher
    )
    np.testing.assert_allclose(value, -(t**2) * (p * np.log(q)).sum(1).mean(), rtol=1e-4)
    np.testing.assert_allclose(to_student, t * (q - p) / 6, rtol=1e-3, atol=1e-6)
    assert not to_teacher.any()


@pytest.mark.parametrize("t", TEMPERATURES)
def test_equal_networks_leave_the_entropy_and_no_gradient(logits, t):
    teacher = logits[0]
    p = softmax(teacher / t)
    entropy = -(p * np.log(p + 1e-30)).sum(1).mean()
    value, (gradient, _) = gradients(
        lambda s, u: soft_target_cross_entropy(s, u, t), teacher, teacher
    )
    np.testing.assert_allclose(value, t**2 * entropy, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_offsets_of_the_logits_do_not_count(logits):
    student, teacher = logits
    shift = np.arange(6, dtype="float32")[:, None]
    np.testing.assert_allclose(
        soft_target_cross_entropy(student + shift, teacher - 2 * shift, 0.5),
        soft_target_cross_entropy(student, teacher, 0.5),
        rtol=1e-4,
    )


def test_uniform_teacher_of_a_uniform_student():
    zeros = np.zeros((3, 7), "float32")
    np.testing.assert_allclose(soft_target_cross_entropy(zeros, zeros, 2.0), 4 * np.log(7), 1e-6)


def test_a_student_sure_of_the_wrong_class_is_moved():
    """Where Keras' own loss is flat: a probability below 1e-7 for the teacher's class."""
    student, teacher = np.float32([[0, 30, 0]]), np.float32([[30, 0, 0]])
    _, (gradient, _) = gradients(soft_target_cross_entropy, student, teacher)
    np.testing.assert_allclose(gradient, [[-1, 1, 0]], atol=1e-5)


def test_arguments_are_checked(logits):
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        soft_target_cross_entropy(*logits, temperature=0.0)
    with pytest.raises(ValueError, match=r"teacher.shape=\(6, 4\)"):
        soft_target_cross_entropy(logits[0], logits[1][:, :4])


# similarity_cross_entropy


@pytest.fixture
def vectors():
    """Student and teacher of 6 images, and a queue of 9 rows."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(rows, 5)).astype("float32") for rows in (6, 6, 9))


def similarity_loop(student, teacher, queue, t, u):
    """The equations, image by image, in float64; mean cross-entropy and mean entropy of p."""
    student, teacher, queue = (
        x.astype("float64") / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (student, teacher, queue)
    )
    crosses, entropies = [], []
    for s, z in zip(student, teacher):
        rows = np.stack([z, *queue])
        p, q = softmax((rows @ z / u)[None])[0], softmax((rows @ s / t)[None])[0]
        crosses.append(-(p * np.log(q)).sum())
        entropies.append(-(p * np.log(p + 1e-300)).sum())
    return np.mean(crosses), np.mean(entropies)


@pytest.mark.parametrize("t, u", [(0.2, 1e-4), (0.2, 0.05), (1.0, 0.5)])
def test_similarities_by_the_equations(vectors, t, u):
    value, (to_student, to_teacher, to_queue) = gradients(
        lambda *x: similarity_cross_entropy(*x, t, u), *vectors
    )
    expected, entropy = similarity_loop(*vectors, t, u)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert value >= entropy and np.abs(to_student).max() > 1e-3
    assert not to_teacher.any() and not to_queue.any()


@pytest.mark.parametrize("t", [0.05, 0.2, 1.0])
def test_a_student_that_equals_its_teacher_is_left_the_entropy(vectors, t):
    """It is the smallest value, and the gradient is zero there."""
    _, teacher, queue = vectors
    value, (gradient, *_) = gradients(
        lambda *x: similarity_cross_entropy(*x, t, t), teacher, teacher, queue
    )
    np.testing.assert_allclose(value, similarity_loop(teacher, *vectors[1:], t, t)[1], rtol=1e-4)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for shift in 0.1 * np.random.default_rng(1).normal(size=(5, *teacher.shape)):
        moved = (teacher + shift).astype("float32")
        assert float(similarity_cross_entropy(moved, teacher, queue, t, t)) > value


def test_a_sure_teacher_asks_for_the_image_itself_as_moco(vectors):
    np.testing.assert_allclose(
        similarity_cross_entropy(*vectors, 0.2, 1e-4), info_nce(*vectors, 0.2), rtol=1e-5
    )


def test_temperatures_without_end(vectors):
    """An undecided student pays log(K + 1); an undecided teacher asks for all rows alike."""
    np.testing.assert_allclose(similarity_cross_entropy(*vectors, 1e6), np.log(10), rtol=1e-5)
    logs = [info_nce(s[None], z[None], vectors[2], 0.5) for s, z in zip(*vectors[:2])]
    student, teacher, queue = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in vectors)
    pull = ((student * teacher).sum(1) - (student @ queue.T).mean(1)) * 9 / 10 / 0.5
    np.testing.assert_allclose(
        similarity_cross_entropy(*vectors, 0.5, 1e6), np.mean(logs + pull), rtol=1e-4
    )


def test_equal_vectors_are_told_apart_by_chance(vectors):
    ones = [np.ones_like(x) for x in vectors]
    np.testing.assert_allclose(similarity_cross_entropy(*ones), np.log(10), rtol=1e-5)


def test_lengths_and_the_order_of_the_queue_do_not_count(vectors):
    rng = np.random.default_rng(1)
    value = similarity_cross_entropy(*vectors, 0.2, 0.05)
    scaled = [x * rng.uniform(0.1, 10, (len(x), 1)).astype("float32") for x in vectors]
    scaled[2] = rng.permutation(scaled[2])
    np.testing.assert_allclose(similarity_cross_entropy(*scaled, 0.2, 0.05), value, rtol=1e-4)


def test_half_precision_and_zero_vectors_stay_finite(vectors):
    student, teacher, queue = vectors
    student[0], teacher[1] = 0, 0
    value, (gradient, *_) = gradients(similarity_cross_entropy, student, teacher, queue)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    half = similarity_cross_entropy(*(x.astype("float16") for x in (student, teacher, queue)))
    assert half.dtype == "float32" and np.isfinite(float(half))


def test_arguments_of_similarities_are_checked(vectors):
    student, teacher, queue = vectors
    for values, message in [
        ((student, teacher, queue, 0.0), "`temperature` must be > 0"),
        ((student, teacher, queue, 0.2, -1.0), "`teacher_temperature` must be > 0.*=-1.0"),
        ((student, teacher[:, :4], queue), r"teacher.shape=\(6, 4\)"),
        ((student, teacher, queue.T), r"as wide as `student`.*\(5, 9\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            similarity_cross_entropy(*values)


# feature_mse


def test_squared_differences(vectors):
    student, teacher, _ = vectors
    value, (to_student, to_teacher) = gradients(feature_mse, student, teacher)
    np.testing.assert_allclose(value, ((student - teacher) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(to_student, 2 * (student - teacher) / 30, atol=1e-6)
    assert not to_teacher.any() and float(feature_mse(teacher, teacher)) == 0
    mean = np.tile(teacher.mean(0), (6, 1))
    np.testing.assert_allclose(feature_mse(mean, teacher), teacher.var(0).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="`student` and `teacher`"):
        feature_mse(student, teacher[:3])


def test_squared_differences_of_unit_vectors_are_cosines(vectors):
    student, teacher = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in vectors[:2])
    np.testing.assert_allclose(
        5 * feature_mse(student, teacher), 2 + 2 * negative_cosine(student, teacher), rtol=1e-5
    )


# softmax_kl


def test_divergence_of_softmaxes_by_the_formula_and_its_gradient():
    import tensorflow as tf

    rng = np.random.default_rng(5)
    student, teacher = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    p, q = (np.exp(x / 0.5) / np.exp(x / 0.5).sum(-1, keepdims=True) for x in (teacher, student))
    expected = (p * np.log(p / q)).sum(-1).mean(1)
    x = tf.Variable(student)
    with tf.GradientTape() as tape:
        found = softmax_kl(x, teacher, 0.5)
        total = tf.reduce_sum(found)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(total, x), (q - p) / 0.5 / 4, atol=1e-6)


def test_divergence_of_softmaxes_is_zero_up_to_a_constant_a_row():
    x = np.random.default_rng(6).normal(size=(3, 5)).astype("float32")
    np.testing.assert_allclose(softmax_kl(x + [[1.0], [2.0], [3.0]], x), 0, atol=1e-5)
    assert np.all(np.array(softmax_kl(x[::-1], x)) >= 0)
    with pytest.raises(ValueError, match="must be logits .* of one shape"):
        softmax_kl(x, x[:, :4])
