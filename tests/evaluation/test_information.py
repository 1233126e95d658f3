"""The bound on shared information: known values, its limit, what it cannot see."""

import numpy as np
import pytest

from keras_ssl.evaluation import shared_information


def test_a_common_code_of_c_words_is_worth_log_c():
    """Views that share which of c words they show, and nothing else."""
    generator = np.random.default_rng(0)
    for words in (2, 8):
        code = np.eye(words)[generator.integers(words, size=4096)]
        found = shared_information(code, code, num_pairs=256)
        assert found.nats == pytest.approx(np.log(words), abs=0.1)
        assert found.nats <= np.log(words) + 0.02


def test_identical_views_reach_the_limit_and_no_more():
    x = np.random.default_rng(0).standard_normal((512, 64))
    found = shared_information(x, 3.0 * x, num_pairs=128)
    assert found.limit == pytest.approx(np.log(128))
    assert found.limit - 0.01 < float(found) <= found.limit


def test_independent_views_share_nothing():
    generator = np.random.default_rng(0)
    found = shared_information(*generator.standard_normal((2, 2048, 32)), num_pairs=256)
    assert -0.1 < found.nats < 0.05


def test_more_noise_less_information_and_order_of_the_views_is_free():
    generator = np.random.default_rng(0)
    x, e1, e2 = generator.standard_normal((3, 2048, 16))
    bounds = [float(shared_information(x + s * e1, x + s * e2)) for s in (0.2, 0.5, 1.0, 2.0)]
    assert all(a > b for a, b in zip(bounds, bounds[1:]))
    swapped = shared_information(x + e2, x + e1)
    assert float(swapped) == pytest.approx(bounds[2], abs=1e-9)


def test_value_is_the_formula():
    """One temperature, one group each half: the second half's mean over both directions."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 8, 3))
    u, w = (z[4:] / np.linalg.norm(z[4:], axis=1, keepdims=True) for z in (x, y))
    p = np.exp(u @ w.T / 0.3)
    terms = [np.log(np.diag(p) / p.sum(axis)) for axis in (0, 1)]
    found = shared_information(x, y, num_pairs=4, temperatures=(0.3,))
    assert found.nats == pytest.approx(np.log(4) + np.mean(terms)) and found.temperature == 0.3


@pytest.mark.parametrize(
    "first, second, options, message",
    [
        (np.ones((8, 2)), np.ones((8, 3)), {}, r"one shape.*\(8, 2\) and \(8, 3\)"),
        (np.ones((8, 2)), np.ones((8, 2)), {"num_pairs": 5}, "num_pairs=5 and 8 images"),
        (np.ones((8, 2)), np.ones((8, 2)), {"num_pairs": 4, "temperatures": (0,)}, "positive"),
        (np.full((8, 2), np.nan), np.ones((8, 2)), {"num_pairs": 4}, "finite"),
    ],
)
def test_wrong_arguments(first, second, options, message):
    with pytest.raises(ValueError, match=message):
        shared_information(first, second, **options)
