import keras
import numpy as np
import pytest

from keras_ssl import evaluation

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 4, 5, 3)).astype(np.uint8)
UNIT = IMAGES / np.float32(255)


def unit(images):
    return keras.ops.cast(images, "float32") / 255.0


def test_perfect_reconstructions_give_0_and_constant_ones_1():
    assert evaluation.reconstruction_ratio(unit, IMAGES) == pytest.approx(0.0, abs=1e-9)
    for value in (0.0, 0.3, 1.0):
        constant = lambda x, v=value: v + 0.0 * unit(x)  # noqa: E731
        assert evaluation.reconstruction_ratio(constant, IMAGES, 7) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 256])
def test_it_is_the_mean_over_pairs(batch_size):
    blurred = lambda x: 0.7 * x + 0.1  # noqa: E731
    r = blurred(UNIT).reshape(30, -1)
    errors = np.square(UNIT.reshape(30, 1, -1) - r[None]).sum(axis=2)
    others = errors[~np.eye(30, dtype=bool)].mean()
    expected = np.diag(errors).mean() / others
    found = evaluation.reconstruction_ratio(lambda x: blurred(unit(x)), IMAGES, batch_size)
    assert found == pytest.approx(expected, rel=1e-5)


def test_contrast_and_number_format_do_not_matter():
    worse = lambda x: 0.5 * x  # noqa: E731
    full = evaluation.reconstruction_ratio(worse, UNIT)
    assert evaluation.reconstruction_ratio(worse, 0.1 * UNIT) == pytest.approx(full, rel=1e-5)
    eight = evaluation.reconstruction_ratio(lambda x: worse(unit(x)), IMAGES)
    assert eight == pytest.approx(full, rel=1e-5)


def test_what_is_not_a_number_stays_so():
    same = np.zeros((4, 2, 2, 1), np.float32)
    assert np.isnan(evaluation.reconstruction_ratio(lambda x: x, same))
    assert np.isnan(evaluation.reconstruction_ratio(lambda x: x * np.nan, UNIT))


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="shape it was given. Received: shape \\(30, 4, 5, 1\\)"):
        evaluation.reconstruction_ratio(lambda x: x[..., :1], UNIT)
    with pytest.raises(ValueError, match="at least two images"):
        evaluation.reconstruction_ratio(unit, IMAGES[:1])
