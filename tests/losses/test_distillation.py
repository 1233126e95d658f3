"""Distillation: value and gradient where they are known."""

import numpy as np
import pytest
from losses.test_contrastive import gradients

from keras_ssl.losses import soft_target_cross_entropy

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
