"""Fine-tuning trains a copy of the whole network; a fresh one has other weights."""

import keras
import numpy as np
import pytest
import toys

from keras_ssl import data
from keras_ssl.backbones.backbone import normalization
from keras_ssl.evaluation import fine_tune, fresh, layer_probe


def coloured(count, seed=0):
    """Images whose class is the channel that is bright."""
    labels = np.arange(count) % 3
    images = toys.images(count, seed=seed) // 4
    images[np.arange(count), :, :, labels] += 150
    return images, labels


def test_it_learns_and_leaves_the_encoder_as_it_is():
    encoder = toys.tiny_backbone()
    before = [w.copy() for w in encoder.get_weights()]
    result = fine_tune(encoder, coloured(60), coloured(30, seed=1), epochs=8, learning_rate=0.02)
    assert float(result) > 0.9
    assert (result.num_images, result.epochs, result.batch_size) == (60, 8, 32)
    assert all(np.array_equal(a, b) for a, b in zip(before, encoder.get_weights(), strict=True))
    kernels = [v for v in result.model.trainable_variables if v.name == "kernel"]
    assert not np.array_equal(kernels[0], encoder.trainable_variables[0])
    images, labels = coloured(30, seed=1)
    assert np.mean(np.argmax(result.model(images / np.float32(255)), axis=1) == labels) == float(
        result
    )


def test_rows_are_the_images_it_trains_on_and_the_seed_decides():
    source = data.from_array(*coloured(60))
    test = coloured(30, seed=1)
    runs = [
        fine_tune(toys_encoder(), source, test, rows=np.arange(12), epochs=1, seed=seed)
        for seed in (0, 0, 1)
    ]
    weights = [run.model.get_weights() for run in runs]
    assert runs[0].num_images == 12 and runs[0].batch_size == 12
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not np.array_equal(weights[0][-2], weights[2][-2])


def toys_encoder():
    keras.utils.set_random_seed(7)
    return toys.tiny_backbone()


def test_one_class_is_refused():
    images, _ = coloured(12)
    with pytest.raises(ValueError, match="`train` must hold at least two classes"):
        fine_tune(toys.tiny_backbone(), (images, np.zeros(12, int)), coloured(6))


def test_a_fresh_network_has_new_weights_and_the_old_preprocessing():
    encoder = toys.tiny_backbone()
    encoder.preprocessing = normalization((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), 3)
    other = fresh(encoder)
    assert not np.array_equal(encoder.trainable_variables[0], other.trainable_variables[0])
    x = toys.images(2, dtype="float32")
    np.testing.assert_array_equal(encoder.preprocessing(x), other.preprocessing(x))


def test_a_probe_of_each_stage():
    stages = {
        "colour": lambda x: np.asarray(x, "float32").mean(axis=(1, 2)),
        "nothing": lambda x: np.ones((len(x), 2), "float32"),
    }
    found = layer_probe(stages, coloured(60), coloured(30, seed=1))
    assert list(found) == ["colour", "nothing"]
    assert float(found["colour"]) == 1.0 and float(found["nothing"]) == pytest.approx(1 / 3)
