import numpy as np
import pytest
from keras import ops

from keras_ssl.ops import sinkhorn


@pytest.fixture
def scores():
    return np.random.default_rng(0).uniform(-1, 1, (12, 5)).astype("float32")


def plain_sinkhorn(scores, epsilon, iterations):
    """Algorithm of SwAV's appendix in float64, with all of its divisions."""
    q = np.exp(scores.astype("float64") / epsilon).T
    q /= q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True)
        q /= prototypes
        q /= q.sum(axis=0, keepdims=True)
        q /= samples
    return (q * samples).T


def test_golden(goldens):
    data = np.load(goldens / "sinkhorn.npz")
    codes = sinkhorn(data["in_scores"], float(data["param_epsilon"]), int(data["param_iterations"]))
    np.testing.assert_allclose(codes, data["out"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_equals_the_algorithm(scores, epsilon, iterations):
    expected = plain_sinkhorn(scores, epsilon, iterations)
    np.testing.assert_allclose(sinkhorn(scores, epsilon, iterations), expected, rtol=1e-4)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 0.05, 10.0])
def test_rows_sum_to_one_at_any_epsilon(scores, epsilon):
    codes = np.array(sinkhorn(scores, epsilon))
    assert (codes >= 0).all()
    np.testing.assert_allclose(codes.sum(axis=1), 1, atol=1e-6)


def test_columns_are_balanced_in_the_end(scores):
    codes = np.array(sinkhorn(scores, 0.1, iterations=100))
    np.testing.assert_allclose(codes.sum(axis=0), 12 / 5, atol=1e-3)
    few = np.array(sinkhorn(scores, 0.1, iterations=1))
    assert np.abs(few.sum(axis=0) - 12 / 5).max() > 1e-2


def test_equal_scores_give_uniform_codes():
    np.testing.assert_allclose(sinkhorn(np.full((6, 4), 0.3, "float32")), 0.25, atol=1e-6)


def test_adding_a_number_to_all_scores_changes_nothing(scores):
    np.testing.assert_allclose(sinkhorn(scores + 7), sinkhorn(scores), atol=1e-4)


def test_adding_a_number_to_each_sample_changes_nothing_in_the_end(scores):
    shift = np.random.default_rng(1).normal(size=(12, 1)).astype("float32")
    few = [np.array(sinkhorn(s, 0.2, iterations=1)) for s in (scores, scores + shift)]
    many = [np.array(sinkhorn(s, 0.2, iterations=300)) for s in (scores, scores + shift)]
    assert np.abs(few[0] - few[1]).max() > 1e-2
    np.testing.assert_allclose(many[0], many[1], atol=1e-3)


def test_follows_the_order_of_samples_and_prototypes(scores):
    rng = np.random.default_rng(2)
    rows, columns = rng.permutation(12), rng.permutation(5)
    expected = np.array(sinkhorn(scores))[rows][:, columns]
    np.testing.assert_allclose(sinkhorn(scores[rows][:, columns]), expected, rtol=1e-4)


def test_a_small_epsilon_finds_the_balanced_assignment():
    """Every prototype gets the two samples that like it best, though all like the first most."""
    scores = np.zeros((6, 3), "float32")
    scores[:, 0] = 0.5
    for sample, prototype in enumerate([0, 0, 1, 1, 2, 2]):
        scores[sample, prototype] += 0.3
    codes = np.array(sinkhorn(scores, epsilon=0.005, iterations=200))
    np.testing.assert_allclose(codes, np.eye(3)[[0, 0, 1, 1, 2, 2]], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_scores_are_assigned_in_float32(scores, dtype):
    codes = sinkhorn(ops.cast(scores, dtype))
    assert codes.dtype == "float32"
    full = sinkhorn(ops.cast(ops.cast(scores, dtype), "float32"))
    np.testing.assert_allclose(codes, full, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3,)),), r"`scores`.*\(3,\)"),
        ((np.zeros((3, 2)), 0), "`epsilon` must be > 0"),
        ((np.zeros((3, 2)), float("nan")), "`epsilon` must be > 0"),
        ((np.zeros((3, 2)), 0.1, 0), "`iterations` must be >= 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(*arguments)


def test_samples_that_do_not_count_change_nothing_for_the_others(scores):
    weights = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1], "float32")
    found = np.array(sinkhorn(scores, 0.1, 3, weights))
    counted = weights == 1
    np.testing.assert_allclose(found[counted], sinkhorn(scores[counted], 0.1, 3), rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    same = sinkhorn(scores, 0.1, 3, np.ones(12))
    np.testing.assert_allclose(same, sinkhorn(scores, 0.1, 3), rtol=1e-4)
    none = np.array(sinkhorn(scores, 0.1, 3, np.zeros(12)))
    np.testing.assert_allclose(none, ops.softmax(scores / 0.1), rtol=1e-4)
