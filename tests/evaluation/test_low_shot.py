"""Low-shot: stratified draws, no label but those drawn, a spread over the draws."""

import sys
from unittest import mock

import numpy as np
import pytest

from keras_ssl.evaluation import draw_labels, low_shot

module = sys.modules["keras_ssl.evaluation.low_shot"]


def same(features):
    return features


def clusters(count, classes=3, seed=0, noise=0.3):
    """Features around one centre a class, and their classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return np.eye(classes, 8)[labels] + noise * generator.normal(size=(count, 8)), labels


def test_draws_are_stratified_seeded_and_nested():
    labels = np.repeat([0, 1, 2], [10, 100, 1000])
    drawn = draw_labels(labels, 0.1, seed=3)
    assert np.bincount(labels[drawn]).tolist() == [1, 10, 100]
    assert (np.diff(drawn) > 0).all()
    assert (drawn == draw_labels(labels, 0.1, seed=3)).all()
    assert (drawn != draw_labels(labels, 0.1, seed=4)).any()
    assert set(drawn) < set(draw_labels(labels, 0.5, seed=3))
    assert draw_labels(labels, 1.0).tolist() == list(range(len(labels)))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_shares_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match="`fraction` must lie in"):
        draw_labels(np.arange(10) % 2, fraction)


def test_a_share_that_leaves_a_class_out_names_it_and_the_least_share():
    labels = np.repeat([0, 1], [1000, 20])
    with pytest.raises(ValueError, match=r"of the 20 images of class 1 is none.*at least 0\.026"):
        draw_labels(labels, 0.01)
    assert np.bincount(labels[draw_labels(labels, 0.026)]).tolist() == [26, 1]


def test_more_labels_and_better_features_score_higher():
    train, test = clusters(600, noise=0.8), clusters(300, seed=1, noise=0.8)
    few, many = low_shot(same, train, test, (0.01, 0.5), draws=4)
    assert few.num_images == 6 and many.num_images == 300
    assert len(few.accuracies) == 4 and float(many) > float(few) > 1 / 3
    assert few.std > many.std > 0
    assert many.mean == pytest.approx(np.mean(many.accuracies))
    assert many.std == pytest.approx(np.std(many.accuracies, ddof=1))


def test_one_image_a_class_is_enough():
    (x, y), (x_test, y_test) = clusters(300, noise=0.05), clusters(90, seed=1, noise=0.05)
    (result,) = low_shot(same, (x[:, :3], y), (x_test[:, :3], y_test), (0.01,), draws=2)
    assert result.num_images == 3 and float(result) == 1.0


def test_labels_outside_of_the_draw_are_not_read():
    x, y = clusters(300, noise=0.8)
    test = clusters(100, seed=1, noise=0.8)
    others = np.setdiff1d(np.arange(300), draw_labels(y, 0.1, seed=0))
    wrong = y.copy()
    wrong[others] = np.random.default_rng(0).permutation(y[others])
    drawn = mock.patch.object(module, "draw_labels", lambda *_: draw_labels(y, 0.1, seed=0))
    with drawn:
        a = low_shot(same, (x, y), test, (0.1,), draws=1)
        b = low_shot(same, (x, wrong), test, (0.1,), draws=1)
    assert (wrong != y).any() and a[0].accuracies == b[0].accuracies


def test_draws_must_be_positive():
    with pytest.raises(ValueError, match="`draws` must be >= 1. Received: draws=0"):
        low_shot(same, clusters(30), clusters(30), draws=0)
