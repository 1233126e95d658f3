"""Teachers: equal at first, then an exact moving average of trainable weights alone."""

import keras
import numpy as np
import pytest
from toys import tiny_backbone

from keras_ssl.layers import ema


def shifted_student():
    student = tiny_backbone()
    teacher = ema.make_teacher(student)
    for w in student.weights:
        w.assign(w + 1.0)
    return teacher, student


def test_starts_equal_and_frozen():
    student = tiny_backbone()
    teacher = ema.make_teacher(student)
    for t, s in zip(teacher.weights, student.weights):
        np.testing.assert_array_equal(np.array(t), np.array(s))
    assert teacher.trainable_variables == [] and student.trainable_variables
    assert all(layer.trainable for layer in teacher._flatten_layers())


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_update_is_the_average_and_leaves_statistics(decay):
    teacher, student = shifted_student()
    before = [np.array(t) for t in teacher.weights]
    ema.update(teacher, student, decay)
    for old, t, s in zip(before, teacher.weights, student.weights):
        expected = decay * old + (1 - decay) * np.array(s) if s.trainable else old
        np.testing.assert_allclose(np.array(t), expected, atol=1e-6)


def test_a_foreign_teacher_is_refused():
    with pytest.raises(ValueError, match="make_teacher"):
        ema.update(
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), tiny_backbone(), 0.9
        )
