"""The loss of DINO: golden value, what its equation implies, what gets no gradient."""

import math

import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import (
    code_cross_entropy,
    cross_view_cross_entropy,
    dino,
    dino_targets,
    gram,
    masked_cross_entropy,
)

rng = np.random.default_rng(0)


def scores(views=3, batch=10, prototypes=6):
    return list(rng.normal(size=(views, batch, prototypes)).astype("float32"))


def test_golden(goldens):
    data = np.load(goldens / "dino.npz")
    teacher = [data["in_teacher1"], data["in_teacher2"]]

    def loss(*student):
        temperatures = data["param_teacher_temperature"], data["param_student_temperature"]
        return dino(student, teacher, data["in_center"], *map(float, temperatures))

    value, found = gradients(loss, *(data[f"in_student{i}"] for i in (1, 2, 3)))
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    for i, gradient in enumerate(found, start=1):
        np.testing.assert_allclose(gradient, data[f"grad_student{i}"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_it_is_the_mean_over_pairs_of_different_views(views):
    student, teacher = scores(views), scores(2)
    center = rng.normal(size=6).astype("float32")
    total = 0.0
    for v in range(2):
        t = (teacher[v].astype("float64") - center) / 0.3
        q = np.exp(t) / np.exp(t).sum(axis=1, keepdims=True)
        for u in range(views):
            s = student[u].astype("float64") / 0.2
            log_p = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
            total += -(q * log_p).sum(axis=1).mean() if u != v else 0.0
    value = dino(student, teacher, center, 0.3, 0.2)
    np.testing.assert_allclose(value, total / (2 * views - 2), rtol=1e-5)


def test_equal_scores_cost_the_log_of_the_prototypes():
    same = [np.full((4, 6), 0.3, "float32")] * 2
    np.testing.assert_allclose(dino(same, scores(2, 4), np.zeros(6)), math.log(6), rtol=1e-5)


def test_never_below_the_entropy_of_the_targets():
    teacher, center = scores(2), np.zeros(6)
    q = np.array([dino_targets(t, center, 0.5) for t in teacher], "float64")
    entropy = -(q * np.log(q)).sum(axis=-1).mean()
    assert float(dino(scores(2), teacher, center, 0.5, 0.1)) > entropy
    # Equal where the student has the teacher's distribution of the other view.
    best = dino([t * 0.2 for t in teacher[::-1]], teacher, center, 0.5, 0.1)
    np.testing.assert_allclose(best, entropy, rtol=1e-4)


def test_a_shift_of_scores_and_centre_changes_nothing():
    teacher, center = scores(1)[0], rng.normal(size=6).astype("float32")
    first = np.array(dino_targets(teacher, center))
    np.testing.assert_allclose(first.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(dino_targets(teacher + 2.0, center), first, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        dino_targets(teacher + 3 * center, 4 * center), first, rtol=1e-3, atol=1e-5
    )


def test_teacher_and_centre_get_no_gradient():
    student = scores(2)
    _, found = gradients(
        lambda t0, t1, c: dino(student, [t0, t1], c), *scores(2), np.zeros(6, "float32")
    )
    assert all(g is None or not np.any(g) for g in found)


def test_wrong_arguments():
    two = scores(2)
    with pytest.raises(ValueError, match="`teacher_temperature` must be > 0. Received.*=0"):
        dino(two, two, np.zeros(6), teacher_temperature=0)
    with pytest.raises(ValueError, match="`temperature` must be > 0. Received.*=-1"):
        dino(two, two, np.zeros(6), temperature=-1)
    with pytest.raises(ValueError, match="two views or more.*Received: 1 scores, 1 codes"):
        cross_view_cross_entropy([ops.softmax(two[0])], two[:1])


def hidden_patches(images=5, patches=4, prototypes=6):
    shape = (images, patches, prototypes)
    student = rng.normal(size=shape).astype("float32")
    targets = np.array(ops.softmax(rng.normal(size=shape).astype("float32")))
    weights = (rng.random((images, patches)) < 0.6).astype("float32")
    weights[0], weights[1] = 0, 1  # none and all of an image
    return student, targets, weights


def test_masked_cross_entropy_is_the_mean_over_the_hidden_patches_of_an_image():
    student, targets, weights = hidden_patches()
    found = np.array(masked_cross_entropy(student, targets, weights, 0.3))
    assert found.shape == (5,) and found[0] == 0
    for i in range(1, 5):
        own = weights[i] == 1
        if own.any():
            expected = code_cross_entropy(targets[i][own], student[i][own], 0.3)
            assert found[i] == pytest.approx(float(expected), rel=1e-5)
    even = masked_cross_entropy(np.zeros_like(student), targets, weights)
    np.testing.assert_allclose(even, math.log(6) * weights.any(axis=1), rtol=1e-5)


def test_patches_that_are_seen_and_targets_get_no_gradient():
    student, targets, weights = hidden_patches()

    def loss(student, targets):
        return ops.mean(masked_cross_entropy(student, targets, weights))

    _, (found, none) = gradients(loss, student, targets)
    assert not none.any() and not found[weights == 0].any()
    assert (np.abs(found[weights == 1]).max(axis=-1) > 0).all()


def test_gram_knows_patches_by_what_they_are_like():
    student, teacher = rng.normal(size=(2, 3, 5, 8)).astype("float32")
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    turned = (2 * teacher @ rotation).astype("float32")
    assert float(gram(turned, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(gram(turned, student)) == pytest.approx(float(gram(teacher, student)), rel=1e-4)
    # One image of two patches: opposite for the student, equal for the teacher.
    opposite, equal = np.array([[[1.0, 0], [-1, 0]]]), np.array([[[0, 2.0, 0], [0, 1, 0]]])
    assert float(gram(opposite, equal)) == pytest.approx(2)  # (0 + 4 + 4 + 0) / 4
    _, (found, none) = gradients(gram, student, teacher)
    assert found.any() and not none.any()


def test_wrong_shapes_of_patches():
    with pytest.raises(ValueError, match=r"`weights` \(B, M\). Received: shapes .*\(3, 2, 1\)"):
        masked_cross_entropy(np.zeros((3, 2, 4)), np.zeros((3, 2, 4)), np.zeros((3, 2, 1)))
    with pytest.raises(ValueError, match="`temperature` must be > 0. Received: temperature=0"):
        masked_cross_entropy(*hidden_patches(), temperature=0)
    with pytest.raises(ValueError, match=r"same L patches. Received: student.shape=\(3, 2, 4\)"):
        gram(np.zeros((3, 2, 4)), np.zeros((3, 3, 4)))
