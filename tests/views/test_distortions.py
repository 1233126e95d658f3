"""Turned, holed, noisy and edge images are what their definitions say."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import views


def many(op, image, count=300):
    dataset = tf.data.Dataset.range(count).map(
        lambda i: op(image, tf.stack([tf.cast(i, tf.int32), 3]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


def photo(size=12):
    return tf.constant(np.random.default_rng(0).random((size, size, 3)), tf.float32)


def test_quarter_turns_are_equally_likely():
    image = photo()
    turned = [np.rot90(image, k) for k in range(4)]
    results = many(views.QuarterTurns(), image, 800)
    counts = [sum((r == t).all() for r in results) for t in turned]
    assert sum(counts) == 800 and min(counts) > 150
    with pytest.raises(ValueError, match="square"):
        views.QuarterTurns()(tf.zeros((4, 6, 3)), tf.constant([1, 2]))


def test_cutout_is_one_grey_box_of_the_wanted_area():
    image = photo(20)
    results = many(views.Cutout(scale=(0.1, 0.3), ratio=(1, 1)), image)
    for result in results:
        changed = (result != image.numpy()).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        box = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == 0.5).all() and changed.sum() == box.shape[0] * box.shape[1]
    shares = (results == 0.5).all(-1).mean((1, 2))
    assert 0.08 < shares.min() < 0.13 and 0.25 < shares.max() < 0.33
    corners = (results[:, 0, 0] == 0.5).all(-1).mean(), (results[:, -1, -1] == 0.5).all(-1).mean()
    assert min(corners) > 0


def test_noise_has_the_wanted_deviation():
    flat = tf.fill((16, 16, 3), 0.5)
    results = many(views.GaussianNoise(sigma=(0.05, 0.05)), flat, 50)
    assert abs(results.std() - 0.05) < 1e-3 and abs(results.mean() - 0.5) < 1e-3
    spread = many(views.GaussianNoise(sigma=(0.01, 0.1)), flat, 100).std((1, 2, 3))
    assert spread.min() < 0.03 and spread.max() > 0.08


def test_sobel_of_a_step_and_of_nothing():
    step = np.zeros((8, 8, 3), np.float32)
    step[:, 4:] = 1
    edges = views.Sobel()(tf.constant(step), tf.constant([1, 2])).numpy()
    expected = np.zeros((8, 8, 3))
    expected[:, 3:5] = 1
    np.testing.assert_allclose(edges, expected, atol=1e-6)
    transposed = views.Sobel()(tf.constant(step.transpose(1, 0, 2)), tf.constant([1, 2]))
    np.testing.assert_allclose(transposed, expected.transpose(1, 0, 2), atol=1e-6)
    flat = views.Sobel()(tf.fill((8, 8, 3), 0.7), tf.constant([1, 2]))
    np.testing.assert_allclose(flat, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: views.Cutout(scale=(0.1, 1.5)), "`scale` must not exceed 1"),
        (lambda: views.GaussianNoise(sigma=(0.3, 0.1)), "`sigma`"),
        (lambda: views.Sobel(p=2), "`p`"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
