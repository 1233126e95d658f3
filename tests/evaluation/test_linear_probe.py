import sys

import keras
import numpy as np
import pytest

from keras_ssl import evaluation

probe = sys.modules["keras_ssl.evaluation.linear_probe"]


def blobs(count, seed=0, classes=8, size=20, signal=0.9):
    rng = np.random.default_rng(seed)
    centres = signal * np.random.default_rng(99).normal(size=(classes, size))
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, size))).astype(np.float32), labels


TRAIN, TEST = blobs(600), blobs(400, seed=1)


def same(features):
    return features


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_both_solvers_come_near_the_best_linear_rule(solver):
    centres = 0.9 * np.random.default_rng(99).normal(size=(8, 20))
    distance = ((TEST[0][:, None] - centres) ** 2).sum(axis=2)
    bayes = np.mean(distance.argmin(axis=1) == TEST[1])  # isotropic blobs: the best there is
    result = evaluation.linear_probe(same, TRAIN, TEST, solver=solver, epochs=30)
    assert bayes - 0.06 < result.accuracy <= bayes + 0.02
    assert result.accuracy <= result.top5 <= 1.0
    assert float(result) == result.accuracy
    assert result.value in result.validation and result.num_train == 600
    assert result.solver == solver and result.layer == "same" and result.feature_dim == 20


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_one_hot_features_give_everything(solver):
    labels = np.random.default_rng(0).integers(0, 6, 200)
    data = (np.eye(6, dtype=np.float32)[labels], labels)
    result = evaluation.linear_probe(same, data, data, solver=solver, epochs=20)
    assert result.accuracy == 1.0 and result.top5 == 1.0


def test_random_labels_give_chance_on_new_images():
    rng = np.random.default_rng(0)
    train = (rng.normal(size=(400, 10)).astype(np.float32), rng.integers(0, 4, 400))
    test = (rng.normal(size=(1000, 10)).astype(np.float32), rng.integers(0, 4, 1000))
    assert abs(evaluation.linear_probe(same, train, test).accuracy - 0.25) < 0.07


def test_layer_of_zero_epochs_is_uniform():
    ((weights, bias),) = probe.softmax_regression(*TRAIN, 8, (0.1,), epochs=0)
    assert not weights.any() and not bias.any()  # so the loss is log(classes)


def test_sgd_goes_down_the_gradient_of_cross_entropy():
    y = TRAIN[1][:64]
    scores = np.random.default_rng(0).normal(size=(64, 2 * 8))

    def loss(scores):
        s = scores.reshape(64, 2, 8)
        log = s - np.log(np.exp(s).sum(axis=2, keepdims=True))
        return -log[np.arange(64), :, y].mean(axis=0).sum()

    gradient = probe._softmax_gradient(scores, y, 2, 8)
    for cell in [(0, 0), (5, 9), (63, 15)]:
        step = np.zeros_like(scores)
        step[cell] = 1e-5
        numeric = (loss(scores + step) - loss(scores - step)) / 2e-5
        assert abs(numeric - gradient[cell]) < 1e-8


def test_runs_trained_together_equal_runs_trained_alone():
    together = probe.softmax_regression(*TRAIN, 8, (0.01, 0.3), epochs=3, seed=4)
    for rate, (weights, bias) in zip((0.01, 0.3), together):
        ((alone, alone_bias),) = probe.softmax_regression(*TRAIN, 8, (rate,), epochs=3, seed=4)
        np.testing.assert_allclose(weights, alone, atol=1e-5)
        np.testing.assert_allclose(bias, alone_bias, atol=1e-5)


def test_invertible_mix_of_features_leaves_the_unpenalised_optimum():
    # Classes overlap, so that the optimum without a penalty is finite.
    sets = [blobs(600, seed=seed, signal=0.35) for seed in (0, 1)]
    mix = np.random.default_rng(3).normal(size=(20, 20)) + 3 * np.eye(20)
    mixed = [((x @ mix).astype(np.float32), y) for x, y in sets]
    plain = evaluation.linear_probe(same, *sets, solver="lbfgs", grid=(1e4,))
    other = evaluation.linear_probe(same, *mixed, solver="lbfgs", grid=(1e4,))
    assert 0.4 < plain.accuracy < 0.8
    assert abs(plain.accuracy - other.accuracy) <= 0.01


def test_scale_shift_and_dead_dimensions_do_not_matter():
    def change(x):
        return np.concatenate([1e-4 * x + 7, np.full((len(x), 3), 5.0)], axis=1)

    plain = evaluation.linear_probe(same, TRAIN, TEST)
    changed = evaluation.linear_probe(change, TRAIN, TEST)
    assert abs(plain.accuracy - changed.accuracy) <= 0.02
    shifted = evaluation.linear_probe(lambda x: 4 * x - 2, TRAIN, TEST)
    assert abs(plain.accuracy - shifted.accuracy) <= 0.005


def test_selection_does_not_see_the_test_set():
    shuffled = (TEST[0], np.random.default_rng(5).permutation(TEST[1]))
    a = evaluation.linear_probe(same, TRAIN, TEST)
    b = evaluation.linear_probe(same, TRAIN, shuffled)
    assert a.value == b.value and a.validation == b.validation


def test_held_out_tenth_is_balanced():
    y = np.repeat(np.arange(5), 100)
    fit, held = probe._split(y, seed=1)
    assert len(held) == 50 and not set(fit) & set(held) and len(fit) + len(held) == 500
    assert set(np.bincount(y[held])) == {10}


def test_trunk_is_not_trained():
    inputs = keras.Input((4, 5, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(12)(x))
    before = [np.copy(w) for w in model.get_weights()]
    data = [(x.reshape(-1, 4, 5, 1), y) for x, y in (TRAIN, TEST)]
    result = evaluation.linear_probe(lambda x: model(x, training=False), *data)
    assert result.accuracy > 0.5
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_few_images_two_classes_and_unconverged_fits():
    train = (TRAIN[0][:6], np.array([3, 9, 3, 9, 3, 9]))
    result = evaluation.linear_probe(same, train, (TRAIN[0][:6], train[1]))
    assert result.accuracy == 1.0 and result.top5 is None
    hard = (np.random.default_rng(0).normal(size=(300, 250)).astype(np.float32), TRAIN[1][:300])
    evaluation.linear_probe(same, hard, hard, solver="lbfgs", grid=(1e8,))  # warns inside


def test_auto_takes_batches_for_large_sets(monkeypatch):
    monkeypatch.setattr(probe, "LARGE", 100)
    assert evaluation.linear_probe(same, TRAIN, TEST, epochs=2).solver == "sgd"


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`solver` must be"):
        evaluation.linear_probe(same, TRAIN, TEST, solver="adam")
    with pytest.raises(ValueError, match="at least two classes"):
        evaluation.linear_probe(same, (TRAIN[0], np.zeros(600, int)), TEST)
    with pytest.raises(ValueError, match="finite features"):
        evaluation.linear_probe(lambda x: x * np.nan, TRAIN, TEST)
