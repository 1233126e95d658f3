import math

import keras
import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import (
    memory_cross_entropy,
    memory_scores,
    noise_contrastive,
    partition_estimate,
)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def case(rng):
    """Queries, memory, own rows and drawn rows."""
    query, memory = 3 * rng.normal(size=(6, 5)), unit(rng.normal(size=(20, 5)))
    return query.astype("float32"), memory, np.arange(6) * 3, rng.integers(20, size=9)


# cross-entropy over all rows


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_cross_entropy_equals_the_equation(case, temperature):
    query, memory, index, _ = case
    p = np.exp(unit(query).astype("float64") @ memory.T / temperature)
    expected = -np.log(p[np.arange(6), index] / p.sum(1)).mean()
    found = memory_cross_entropy(query, memory, index, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_of_equal_rows_is_the_log_of_their_number(case):
    query, memory, index, _ = case
    equal = np.repeat(memory[:1], 20, axis=0)
    np.testing.assert_allclose(memory_cross_entropy(query, equal, index), math.log(20), rtol=1e-5)


def test_cross_entropy_of_orthogonal_rows(rng):
    memory = np.eye(8, dtype="float32")
    found = memory_cross_entropy(memory[:3], memory, np.arange(3), 0.2)
    np.testing.assert_allclose(found, math.log(1 + 7 * math.exp(-5)), rtol=1e-4)


# noise-contrastive estimation


@pytest.mark.parametrize("negatives, value", [(4096, 9.3179), (1, 2 * math.log(2))])
def test_nce_of_the_uniform_distribution(negatives, value):
    """P = 1/n everywhere: Z = n exp(s) for equal scores s, whatever s and n are."""
    scores = np.full((3, 1 + negatives), 2.5, "float32")
    for n in (10, 50_000):
        partition = partition_estimate(scores, n)
        np.testing.assert_allclose(partition, n * math.exp(2.5), rtol=1e-4)
        found = float(noise_contrastive(scores, partition, n))
        expected = math.log(1 + negatives) + negatives * math.log((1 + negatives) / negatives)
        assert found == pytest.approx(expected, rel=1e-4) and found == pytest.approx(value, 1e-4)


def test_nce_equals_the_equation(case, rng):
    query, memory, index, drawn = case
    n, k, z = 20, len(drawn), 31.0
    scores = memory_scores(query, memory[index], memory[drawn], 0.3)
    v = unit(query).astype("float64")
    total = 0.0
    for i in range(6):
        rows = [index[i], *drawn]
        p = [math.exp(v[i] @ memory[row] / 0.3) / z for row in rows]
        h = [x / (x + k / n) for x in p]
        total -= math.log(h[0]) + sum(math.log(1 - x) for x in h[1:])
    np.testing.assert_allclose(noise_contrastive(scores, z, n), total / 6, rtol=1e-5)
    expected = n * np.mean(
        np.exp(
            np.concatenate(
                [
                    [v[i] @ memory[index[i]]] + [v[i] @ memory[row] for row in drawn]
                    for i in range(6)
                ]
            )
            / 0.3
        )
    )
    np.testing.assert_allclose(partition_estimate(scores, n), expected, rtol=1e-5)


def test_nce_gradient_is_that_of_cross_entropy_for_many_negatives(rng):
    """With all rows as noise and the exact Z, the estimate's gradient tends to the softmax's."""
    query, memory = unit(rng.normal(size=(1, 4))), unit(rng.normal(size=(5, 4)))
    index = np.array([2])
    z = float(np.exp(query @ memory.T / 0.5).sum())
    many = np.tile(memory, (400, 1))  # every row equally often, as in expectation

    def estimated(v):
        return noise_contrastive(memory_scores(v, memory[index], many, 0.5), z, 5)

    _, (exact,) = gradients(lambda v: memory_cross_entropy(v, memory, index, 0.5), query)
    _, (found,) = gradients(estimated, query)
    np.testing.assert_allclose(found, exact, atol=5e-3 * np.abs(exact).max())


def test_scores_are_cosines_with_the_own_row_first(case):
    query, memory, index, drawn = case
    scores = np.array(memory_scores(query, memory[index], memory[drawn], 0.3))
    v = unit(query)
    np.testing.assert_allclose(scores[:, 0], (v * memory[index]).sum(1) / 0.3, atol=1e-5)
    np.testing.assert_allclose(scores[:, 1:], v @ memory[drawn].T / 0.3, atol=1e-5)


def test_the_memory_and_the_constant_get_no_gradient(case):
    query, memory, index, drawn = case

    def both(v, m, z):
        scores = memory_scores(v, ops.take(m, index, axis=0), ops.take(m, drawn, axis=0))
        scores += ops.cast(0.0, "float32") * partition_estimate(scores, 20)
        return noise_contrastive(scores, z, 20) + memory_cross_entropy(v, m, index)

    _, (v, m, z) = gradients(both, query, memory, np.float32(40.0))
    assert np.abs(v).max() > 1e-3 and not m.any() and not z.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_give_finite_float32(case, dtype):
    query, memory, index, drawn = case
    half = ops.cast(100 * query, dtype)
    scores = memory_scores(half, memory[index], memory[drawn], 0.01)
    value = noise_contrastive(scores, 1e30, 20)
    for x in (scores, value, memory_cross_entropy(half, memory, index, 0.01)):
        assert keras.backend.standardize_dtype(x.dtype) == "float32"
        assert np.isfinite(np.array(x)).all()


def test_nce_is_finite_where_probabilities_underflow():
    scores = np.array([[-200.0, 200.0]], "float32")
    value, (grad,) = gradients(lambda s: noise_contrastive(s, 1.0, 10), scores)
    assert math.isfinite(value) and value > 390 and np.isfinite(grad).all()


# errors


def test_wrong_arguments(case):
    query, memory, index, drawn = case
    with pytest.raises(ValueError, match="temperature=0"):
        memory_cross_entropy(query, memory, index, 0)
    with pytest.raises(ValueError, match="temperature=-1"):
        memory_scores(query, memory[index], memory[drawn], -1)
    with pytest.raises(ValueError, match=r"`memory`.*\(20, 4\)"):
        memory_cross_entropy(query, memory[:, :4], index)
    with pytest.raises(ValueError, match="`query` and `positives`"):
        memory_scores(query, memory[:2], memory[drawn])
    with pytest.raises(ValueError, match="`negatives`"):
        memory_scores(query, memory[index], memory[:, :4])
    with pytest.raises(ValueError, match=r"`scores`.*\(6, 1\)"):
        noise_contrastive(np.ones((6, 1), "float32"), 1.0, 10)
    with pytest.raises(ValueError, match="num_images=0"):
        noise_contrastive(np.ones((6, 3), "float32"), 1.0, 0)
    with pytest.raises(ValueError, match="num_images=0"):
        partition_estimate(np.ones((6, 3), "float32"), 0)
