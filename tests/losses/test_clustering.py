import math

import numpy as np
import pytest
from keras import ops
from losses.test_contrastive import gradients

from keras_ssl.losses import code_cross_entropy, code_divergence, swapped_prediction
from keras_ssl.ops import sinkhorn


@pytest.fixture
def pair():
    return np.random.default_rng(0).uniform(-1, 1, (2, 10, 6)).astype("float32")


def test_golden(goldens):
    data = np.load(goldens / "swav_two_views.npz")
    parameters = (
        float(data["param_temperature"]),
        float(data["param_epsilon"]),
        int(data["param_iterations"]),
    )
    value, (grad1, grad2) = gradients(
        lambda a, b: swapped_prediction(a, b, *parameters), data["in_scores1"], data["in_scores2"]
    )
    np.testing.assert_allclose(value, data["out"], rtol=1e-4)
    np.testing.assert_allclose(grad1, data["grad_scores1"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(grad2, data["grad_scores2"], rtol=1e-3, atol=1e-6)


def test_equals_the_equation(pair):
    total = 0.0
    for codes_of, predicted in (pair, pair[::-1]):
        codes = np.array(sinkhorn(codes_of, 0.07, 2), "float64")
        scores = predicted.astype("float64") / 0.3
        for q, s in zip(codes, scores):
            total += -sum(q * (s - math.log(np.exp(s).sum())))
    value = swapped_prediction(*pair, temperature=0.3, epsilon=0.07, iterations=2)
    np.testing.assert_allclose(value, total / 20, rtol=1e-5)


def test_equal_scores_cost_log_of_the_prototypes(pair):
    same = np.full((5, 6), 0.4, "float32")
    np.testing.assert_allclose(swapped_prediction(same, same), math.log(6), rtol=1e-5)
    codes = sinkhorn(pair[0])
    np.testing.assert_allclose(
        code_cross_entropy(codes, np.zeros((10, 6), "float32")), math.log(6), rtol=1e-5
    )


def test_never_below_the_entropy_of_the_codes_and_equal_for_the_codes_logarithm(pair):
    codes = np.array(sinkhorn(pair[0], 0.3))
    entropy = -(codes * np.log(codes)).sum(axis=1).mean()
    assert float(code_cross_entropy(codes, pair[1], 0.1)) > entropy
    best = code_cross_entropy(codes, np.log(codes) * 0.1, 0.1)
    np.testing.assert_allclose(best, entropy, rtol=1e-5)


def test_symmetric_in_the_views_and_in_the_order(pair):
    value = swapped_prediction(*pair)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(10), rng.permutation(6)
    np.testing.assert_allclose(swapped_prediction(pair[1], pair[0]), value, rtol=1e-5)
    np.testing.assert_allclose(swapped_prediction(*pair[:, rows][:, :, columns]), value, rtol=1e-5)
    assert abs(float(swapped_prediction(pair[0], pair[1][rows]) - value)) > 1e-2


def test_codes_carry_no_gradient(pair):
    """The gradient is that of the cross-entropy with the codes as constants."""
    codes = [np.array(sinkhorn(scores)) for scores in pair]
    _, (grad1, grad2) = gradients(lambda a, b: swapped_prediction(a, b), *pair)
    softmax = [np.array(ops.softmax(scores / 0.1)) for scores in pair]
    np.testing.assert_allclose(grad1, (softmax[0] - codes[1]) / (0.1 * 20), atol=1e-5)
    np.testing.assert_allclose(grad2, (softmax[1] - codes[0]) / (0.1 * 20), atol=1e-5)
    _, (grad_codes,) = gradients(lambda q: code_cross_entropy(q, pair[1]), codes[0])
    assert not grad_codes.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gives_a_finite_float32_loss(pair, dtype):
    value = swapped_prediction(*(ops.cast(scores, dtype) for scores in pair), 0.001, 0.001)
    assert value.dtype == "float32" and np.isfinite(float(value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "`temperature` must be > 0"),
        ({"epsilon": -1}, "`epsilon` must be > 0"),
        ({"iterations": 0}, "`iterations` must be >= 1"),
        ({"scores2": np.zeros((10, 5), "float32")}, "`scores1` and `scores2`"),
    ],
)
def test_bad_arguments_are_named(pair, change, message):
    with pytest.raises(ValueError, match=message):
        swapped_prediction(**{"scores1": pair[0], "scores2": pair[1], **change})
    with pytest.raises(ValueError, match="`codes` and `scores`"):
        code_cross_entropy(pair[0], pair[1][:3])


# divergence


def test_divergence_is_zero_where_prediction_and_codes_agree(pair):
    scores = 3 * pair[0]
    codes = np.array(ops.softmax(scores / 0.5))
    assert float(code_divergence(codes, scores, 0.5)) == pytest.approx(0, abs=1e-5)
    assert float(code_divergence(codes, pair[1], 0.5)) > 0.01
    one_hot = np.eye(6, dtype="float32")[[2, 4]]
    assert float(code_divergence(one_hot, 100 * one_hot)) == pytest.approx(0, abs=1e-5)


def test_divergence_of_equal_scores_is_what_the_codes_lack_of_the_largest_entropy(pair):
    codes = np.array(ops.softmax(3 * pair[0]))
    entropy = -np.mean(np.sum(codes * np.log(codes), axis=1))
    value = float(code_divergence(codes, np.zeros_like(codes)))
    assert value == pytest.approx(math.log(6) - entropy, rel=1e-4)


def test_divergence_has_the_gradient_of_the_cross_entropy_and_none_for_codes(pair):
    codes = np.array(ops.softmax(3 * pair[0]))
    _, (to_codes, to_scores) = gradients(lambda q, s: code_divergence(q, s, 0.3), codes, pair[1])
    _, (_, expected) = gradients(lambda q, s: code_cross_entropy(q, s, 0.3), codes, pair[1])
    assert to_codes is None or not np.any(to_codes)
    np.testing.assert_allclose(to_scores, expected, atol=1e-6)
