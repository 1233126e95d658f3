"""`shapes`: repeatable, varied, hard for pixels."""

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.data import drawing


def test_an_image_is_a_function_of_seed_and_number():
    images, labels = drawing.draw(np.arange(50), (32, 32), 3, 3)
    alone, label = drawing.draw(np.array([17]), (32, 32), 3, 3)
    np.testing.assert_array_equal(alone[0], images[17])
    assert label[0] == labels[17]
    other, _ = drawing.draw(np.arange(50), (32, 32), 4, 3)
    assert not any(np.array_equal(a, b) for a, b in zip(images, other, strict=True))


def test_the_same_scene_at_another_size():
    small, small_labels = drawing.draw(np.arange(60), (32, 32), 0, 3)
    large, large_labels = drawing.draw(np.arange(60), (96, 96), 0, 3)
    np.testing.assert_array_equal(small_labels, large_labels)
    pooled = large.reshape(60, 32, 3, 32, 3, 3).mean((2, 4))
    assert np.abs(pooled - small).mean() < 12  # noise aside


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, (24, 40)), (6, 16)])
def test_sizes_and_channels(channels, size):
    source = data.shapes(30, size, channels=channels)
    height, width = (size, size) if isinstance(size, int) else size
    assert source.image_shape == (height, width, channels) and source.dtype == "uint8"
    assert source.class_names == list(drawing.CLASS_NAMES) and source.labels.max() < 10


def test_the_splits_are_disjoint():
    train, test = data.load("shapes"), data.load("shapes", split="test")
    assert (train.size, test.size) == (5000, 1000)
    numbered, _ = drawing.draw(np.array([5000]), (32, 32), 0, 3)
    np.testing.assert_array_equal(test.subset(np.array([0, 1])).arrays((32, 32))[0][0], numbered[0])
    with pytest.raises(ValueError, match="split"):
        data.load("shapes", split="dev")


def test_pixels_do_not_tell_the_shape():
    images, labels = data.shapes(6000).arrays((32, 32))
    assert np.bincount(labels).min() > 480
    x = images.reshape(6000, -1) / np.float32(255)
    train, test = x[:5000], x[5000:]
    distance = (train**2).sum(1) - 2 * test @ train.T
    nearest = np.argpartition(distance, 5, axis=1)[:, :5]
    votes = [np.bincount(labels[row], minlength=10).argmax() for row in nearest]
    assert np.mean(votes == labels[5000:]) < 0.25


def test_masks_tell_the_shape():
    """Each shape has its own area and outline, whatever its place and turn."""
    grid = (np.arange(200) + 0.5) / 100 - 1
    u, v = np.meshgrid(1.1 * grid, 1.1 * grid)
    masks = {name: shape(u, v) < 0 for name, shape in drawing._SHAPES.items()}
    area = {name: mask.mean() * 2.2**2 for name, mask in masks.items()}
    assert area["disk"] == pytest.approx(np.pi * 0.81, rel=0.01)
    assert area["square"] == pytest.approx(2.25, rel=0.02)
    assert area["bar"] == pytest.approx(1.0, rel=0.02)
    assert area["ring"] == pytest.approx(np.pi * (0.97**2 - 0.53**2), rel=0.02)
    assert area["cross"] == pytest.approx(4 * 0.95 * 0.27 * 2 - 0.54**2, rel=0.02)
    for name, mask in masks.items():
        for other, other_mask in masks.items():
            if name < other:
                assert (mask ^ other_mask).mean() > 0.02, (name, other)
