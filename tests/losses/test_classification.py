"""Cross-entropy of the images that have a label: value, gradient and the images without one."""

import math

import numpy as np
import pytest
from losses.test_contrastive import gradients

from keras_ssl.losses import labelled_cross_entropy

LABELS = np.array([2, -1, 0, 4, -1, 2])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


def test_value_and_gradient_in_closed_form(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = np.flatnonzero(LABELS >= 0)
    value, (gradient,) = gradients(lambda x: labelled_cross_entropy(x, LABELS), logits)
    np.testing.assert_allclose(value, -np.log(p[known, LABELS[known]]).mean(), rtol=1e-5)
    expected = np.zeros_like(logits)
    expected[known] = (p - np.eye(5)[LABELS])[known] / len(known)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_images_without_a_label_do_not_count(logits):
    known = LABELS >= 0
    expected = labelled_cross_entropy(logits[known], LABELS[known])
    np.testing.assert_allclose(labelled_cross_entropy(logits, LABELS), expected, rtol=1e-6)
    changed = np.where(known[:, None], logits, 1e9).astype("float32")
    np.testing.assert_allclose(labelled_cross_entropy(changed, LABELS), expected, rtol=1e-6)


def test_weights_multiply_the_terms_and_leave_the_number(logits):
    weights = np.array([2.0, 9.0, 0.5, 1.0, 9.0, 0.0], "float32")
    terms = np.array(
        [float(labelled_cross_entropy(logits[i : i + 1], LABELS[i : i + 1])) for i in range(6)]
    )
    found = labelled_cross_entropy(logits, LABELS, weights)
    assert float(found) == pytest.approx((weights * terms).sum() / 4, rel=1e-5)
    same = labelled_cross_entropy(logits, LABELS, np.ones(6, "float32"))
    assert float(same) == float(labelled_cross_entropy(logits, LABELS))


def test_it_is_zero_without_any_label_and_log_classes_without_a_difference(logits):
    value, (gradient,) = gradients(lambda x: labelled_cross_entropy(x, np.full(6, -1)), logits)
    assert float(value) == 0 and not np.array(gradient).any()
    assert float(labelled_cross_entropy(0 * logits, LABELS)) == pytest.approx(math.log(5))


def test_wrong_shapes(logits):
    with pytest.raises(ValueError, match=r"labels.shape=\(5,\)"):
        labelled_cross_entropy(logits, LABELS[:5])
    with pytest.raises(ValueError, match=r"logits.shape=\(6,\)"):
        labelled_cross_entropy(logits[:, 0], LABELS)
