"""SimCLR v2's steps after pretraining: the choice of labels, distillation, the folder."""

import dataclasses

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

from keras_ssl import data
from recipes import simclr_v2

CONFIG = dataclasses.replace(
    simclr_v2.RECIPE.presets["cifar10_small"], image_size=8, batch_size=8, student_epochs=20
)


def test_labels_are_drawn_evenly_and_nested():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [200, 100, 100, 20]))
    few, many = (simclr_v2.balanced(labels, share, seed=3) for share in (0.01, 0.1))
    assert np.bincount(labels[few]).tolist() == [2, 1, 1, 1]
    assert np.bincount(labels[many]).tolist() == [20, 10, 10, 2]
    assert set(few) < set(many) and len(set(many)) == len(many)
    np.testing.assert_array_equal(many, simclr_v2.balanced(labels, 0.1, seed=3))
    assert not np.array_equal(many, simclr_v2.balanced(labels, 0.1, seed=4))


@pytest.mark.parametrize("temperature", simclr_v2.TEMPERATURES.values())
def test_a_student_learns_the_teachers_predictions_without_labels(temperature):
    keras.utils.set_random_seed(0)
    teacher = simclr_v2.fresh(tiny_backbone(), 3)
    teacher.get_layer("logits").kernel.assign(np.random.default_rng(0).normal(size=(8, 3)))
    student = simclr_v2.fresh(tiny_backbone(name="student"), 3)
    x = images(32)
    before = [w.numpy() for w in teacher.weights]
    pixels = x.astype("float32") / 255

    def distance():
        p, q = (keras.ops.softmax(m(pixels)) for m in (teacher, student))
        return float(keras.ops.mean(keras.ops.sum(p * keras.ops.log(p / q), axis=1)))

    apart = distance()
    trained = simclr_v2.distil(teacher, student, data.from_array(x), CONFIG, temperature)
    assert trained is student and distance() < apart
    for old, new in zip(before, teacher.weights):  # statistics of its normalisation, too
        np.testing.assert_array_equal(old, new)


def test_zero_logits_predict_all_classes_alike():
    encoder = simclr_v2.fresh(tiny_backbone(), 3).get_layer("tiny")
    shape = keras.Input((8, 8, 3))
    model = simclr_v2.classifier(keras.Model(shape, encoder(shape)), 5)
    assert model.output_shape == (None, 5) and not np.any(model(images(2, dtype="float32")))


def test_a_folder_of_other_settings_is_refused(tmp_path):
    simclr_v2._claim(CONFIG, tmp_path / "out")
    simclr_v2._claim(CONFIG, tmp_path / "out")
    with pytest.raises(ValueError, match="other settings"):
        simclr_v2._claim(dataclasses.replace(CONFIG, epochs=21), tmp_path / "out")
