"""`shapes`: repeatable, varied; the class is the shape and not in pixels or colours."""

import dataclasses

import numpy as np
import pytest

from keras_ssl import data, evaluation
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
    assert np.abs(pooled - small).mean() < 8  # noise aside


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, (24, 40)), (6, 16), (3, (16, 200))])
def test_sizes_and_channels(channels, size):
    source = data.shapes(30, size, channels=channels)
    height, width = (size, size) if isinstance(size, int) else size
    assert source.image_shape == (height, width, channels) and source.dtype == "uint8"
    assert source.class_names == list(drawing.CLASS_NAMES) and source.labels.max() < 10
    images, _ = source.arrays((height, width))
    assert images.std((1, 2)).min() > 8  # every channel of every image shows something


@pytest.mark.parametrize(
    "wrong", [{"image_size": 4}, {"channels": 0}, {"seed": -1}, {"first": -1}], ids=str
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        data.shapes(8, **wrong)


def test_the_splits_are_disjoint():
    train, test = data.load("shapes"), data.load("shapes", split="test")
    assert (train.size, test.size) == (5000, 1000)
    numbered, _ = drawing.draw(np.array([5000]), (32, 32), 0, 3)
    np.testing.assert_array_equal(test.subset(np.array([0, 1])).arrays((32, 32))[0][0], numbered[0])
    with pytest.raises(ValueError, match="split"):
        data.load("shapes", split="dev")


@pytest.fixture(scope="module")
def drawn():
    """Images in [0, 1] and labels of the training and the test numbers."""
    images, labels = drawing.draw(np.arange(6000), (32, 32), 0, 3)
    return images / np.float32(255), labels


@pytest.mark.parametrize(
    ("description", "most"),
    [("pixels", 0.3), ("means", 0.2), ("spreads", 0.2), ("histograms", 0.2)],
)
def test_what_does_not_tell_the_shape(drawn, description, most):
    """kNN of what needs no learning: as the recipes judge, and with fewer neighbours."""
    images, labels = drawn
    described = {
        "pixels": lambda x: x.reshape(len(x), -1),
        "means": lambda x: x.mean((1, 2)),
        "spreads": lambda x: np.concatenate([x.mean((1, 2)), x.std((1, 2))], axis=1),
        "histograms": _histograms,
    }[description](images)
    for features in (described, described - described.mean(0)):  # cosines of both
        train, test = features[:5000], features[5000:5500]
        for k in (200, 20):
            predicted = evaluation.weighted_knn(train, labels[:5000], test, k)
            assert np.mean(predicted == labels[5000:5500]) < most


def _histograms(images, bins=8):
    """Share of pixels in each of `bins` ranges of each channel."""
    level = np.minimum((images * bins).astype(int), bins - 1)
    shares = [(level == value).mean((1, 2)) for value in range(bins)]
    return np.concatenate(shares, axis=1).astype(np.float32)


def test_classes_are_equally_frequent(drawn):
    assert np.bincount(drawn[1], minlength=10).min() > 500


def test_shapes_have_one_area_and_differ():
    grid = (np.arange(200) + 0.5) / 100 - 1
    u, v = np.meshgrid(1.2 * grid, 1.2 * grid)
    masks = {name: drawing._SHAPES[name](u, v) < 0 for name in drawing.CLASS_NAMES}
    for name, mask in masks.items():
        assert mask.mean() * 2.4**2 == pytest.approx(1.53, rel=0.05), name
        assert np.hypot(u, v)[mask].max() < 1.12, name  # nearly nothing beyond its cell
        for other, other_mask in masks.items():
            if name < other:
                assert (mask ^ other_mask).mean() > 0.08, (name, other)


def test_a_scene_moves_by_its_parameters():
    """Cells that start half a cell lower show the same image lower: for clips to come."""
    scenes, noise = drawing.make_scenes(np.arange(4), (32, 32), 0, 3)
    still = dataclasses.replace(
        scenes, spacing=np.full(4, 0.25, np.float32), turn=np.zeros(4, np.float32)
    )
    flat = dataclasses.replace(still, ground=0 * still.ground, grain=0 * still.grain)
    lower = dataclasses.replace(flat, origin=flat.origin - np.float32([0, 0.5]))
    here, there = (drawing.render(s, (32, 32), noise).astype(int) for s in (flat, lower))
    np.testing.assert_allclose(there[:, 4:], here[:, :-4], atol=1)  # a cell has 8 pixels
