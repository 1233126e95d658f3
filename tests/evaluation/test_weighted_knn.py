import sys
import tracemalloc

import keras
import numpy as np
import pytest

from keras_ssl import evaluation
from keras_ssl.evaluation import weighted_knn

knn = sys.modules["keras_ssl.evaluation.knn"]


def blobs(count, seed=0, classes=4, size=12, noise=0.9):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, size))
    labels = rng.integers(0, classes, count)
    return (centres[labels] + noise * rng.normal(size=(count, size))).astype(np.float32), labels


BANK, LABELS = blobs(300)
QUERIES, TRUTH = blobs(70, seed=1)


def votes_by_hand(train, labels, test, k, temperature):
    """The equation, one query and one neighbour at a time."""
    train = train.astype(np.float64) / np.linalg.norm(train.astype(np.float64), axis=1)[:, None]
    votes = np.zeros((len(test), labels.max() + 1))
    for m, query in enumerate(test.astype(np.float64)):
        similarity = train @ (query / np.linalg.norm(query))
        for j in np.argsort(-similarity, kind="stable")[:k]:
            votes[m, labels[j]] += np.exp(similarity[j] / temperature)
    return votes


def test_golden(goldens):
    g = np.load(goldens / "weighted_knn.npz")
    predictions, votes = weighted_knn(
        g["in_train"],
        g["in_train_labels"],
        g["in_test"],
        k=int(g["param_k"]),
        temperature=float(g["param_temperature"]),
        return_votes=True,
    )
    np.testing.assert_array_equal(predictions, g["out_predictions"])
    np.testing.assert_allclose(votes, g["out_votes"], rtol=1e-4)


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (20, 0.07), (300, 0.5), (7, 1e-2)])
def test_votes_are_the_equation(k, temperature):
    predictions, votes = weighted_knn(BANK, LABELS, QUERIES, k, temperature, return_votes=True)
    expected = votes_by_hand(BANK, LABELS, QUERIES, k, temperature)
    np.testing.assert_allclose(votes, expected, rtol=1e-3 if temperature < 0.05 else 1e-4)
    np.testing.assert_array_equal(predictions, expected.argmax(axis=1))


@pytest.mark.parametrize("query_chunk, bank_chunk", [(5, 3), (7, 13), (64, 50), (1000, 299)])
def test_chunks_do_not_matter(monkeypatch, query_chunk, bank_chunk):
    for k in (1, 20, 200):
        expected = weighted_knn(BANK, LABELS, QUERIES, k, return_votes=True)
        with monkeypatch.context() as patch:
            patch.setattr(knn, "QUERY_CHUNK", query_chunk)
            patch.setattr(knn, "BANK_CHUNK", bank_chunk)
            predictions, votes = weighted_knn(BANK, LABELS, QUERIES, k, return_votes=True)
        np.testing.assert_array_equal(predictions, expected[0])
        np.testing.assert_allclose(votes, expected[1], rtol=1e-4)


def test_chunks_do_not_matter_where_all_is_tied(monkeypatch):
    bank = np.ones((100, 4), np.float32)
    labels = np.arange(100) % 7
    expected = weighted_knn(bank, labels, bank[:9], 10, return_votes=True)[1]
    counts = np.bincount(labels[:10], minlength=7)  # of equals, the first of the bank
    np.testing.assert_allclose(expected / expected.max(), np.tile(counts / counts.max(), (9, 1)))
    monkeypatch.setattr(knn, "BANK_CHUNK", 17)
    votes = weighted_knn(bank, labels, bank[:9], 10, return_votes=True)[1]
    np.testing.assert_allclose(votes, expected)


def test_memory_stays_bounded(monkeypatch):
    """Ten times the bank and the queries: the same peak, far below the full score matrix."""
    monkeypatch.setattr(knn, "QUERY_CHUNK", 64)
    monkeypatch.setattr(knn, "BANK_CHUNK", 1024)
    rng = np.random.default_rng(0)
    peaks = []
    for count in (2_000, 20_000):
        bank = rng.normal(size=(count, 16)).astype(np.float32)
        labels, queries = rng.integers(0, 10, count), bank[: count // 10]
        tracemalloc.start()
        weighted_knn(bank, labels, queries, k=50)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 20_000 * 2_000 * 4 / 10


def test_scale_and_rotation_do_not_matter():
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0].astype(np.float32)
    expected = weighted_knn(BANK, LABELS, QUERIES, 20, return_votes=True)
    for bank, queries in (
        (BANK * 1e20, QUERIES * 1e-20),
        (BANK @ rotation, QUERIES @ rotation),
    ):
        predictions, votes = weighted_knn(bank, LABELS, queries, 20, return_votes=True)
        np.testing.assert_array_equal(predictions, expected[0])
        np.testing.assert_allclose(votes, expected[1], rtol=1e-3)


def test_one_neighbour_whatever_the_temperature():
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (BANK, QUERIES)]
    nearest = LABELS[(unit[1] @ unit[0].T).argmax(axis=1)]
    for temperature in (1e-3, 0.07, 1e3):
        predicted = weighted_knn(BANK, LABELS, QUERIES, 1, temperature)
        np.testing.assert_array_equal(predicted, nearest)
    np.testing.assert_array_equal(weighted_knn(BANK, LABELS, BANK, 1), LABELS)
    # Towards zero temperature the nearest alone decides, even where exp(1 / t) overflows.
    np.testing.assert_array_equal(weighted_knn(BANK, LABELS, QUERIES, 50, 1e-6), nearest)


def test_high_temperature_is_the_majority():
    votes = weighted_knn(BANK, LABELS, QUERIES, 25, 1e6, return_votes=True)[1]
    np.testing.assert_allclose(votes, np.rint(votes), atol=1e-3)
    np.testing.assert_allclose(votes.sum(axis=1), 25, rtol=1e-5)


def test_random_labels_give_chance():
    labels = np.random.default_rng(3).integers(0, 5, 300)
    truth = np.random.default_rng(4).integers(0, 5, 2000)
    queries = blobs(2000, seed=5)[0]
    assert abs(np.mean(weighted_knn(BANK, labels, queries, 20) == truth) - 0.2) < 0.05


def test_more_neighbours_than_bank_lets_all_vote():
    expected = weighted_knn(BANK[:30], LABELS[:30], QUERIES, 30, return_votes=True)[1]
    votes = weighted_knn(BANK[:30], LABELS[:30], QUERIES, 200, return_votes=True)[1]
    np.testing.assert_allclose(votes, expected)


@pytest.mark.parametrize("bank_chunk", [8192, 37])
def test_leave_one_out_is_a_bank_without_the_query(monkeypatch, bank_chunk):
    monkeypatch.setattr(knn, "BANK_CHUNK", bank_chunk)
    monkeypatch.setattr(knn, "QUERY_CHUNK", 50)
    predicted = weighted_knn(BANK, LABELS, BANK, 5, leave_one_out=True)
    for i in range(0, 300, 23):
        rest = np.delete(np.arange(300), i)
        expected = weighted_knn(BANK[rest], LABELS[rest], BANK[i : i + 1], 5)
        assert predicted[i] == expected[0]


def test_accuracy_from_images():
    flatten = keras.layers.Flatten()
    images, queries = BANK.reshape(300, 2, 2, 3), QUERIES.reshape(70, 2, 2, 3)
    accuracy = evaluation.knn_accuracy(flatten, (images, LABELS), (queries, TRUTH), k=20)
    assert accuracy == np.mean(weighted_knn(BANK, LABELS, QUERIES, 20) == TRUTH)
    assert 0.6 < accuracy <= 1.0
    assert evaluation.knn_accuracy(flatten, (images, LABELS), k=None) > 0.6
    assert evaluation.knn_accuracy(flatten, (images, LABELS), (images, LABELS), k=1) == 1.0


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`k` must be >= 1. Received: k=0"):
        weighted_knn(BANK, LABELS, QUERIES, 0)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        weighted_knn(BANK, LABELS, QUERIES, 5, 0.0)
    with pytest.raises(ValueError, match="shapes .N, D. and .M, D."):
        weighted_knn(BANK, LABELS, QUERIES[:, :5])
    with pytest.raises(ValueError, match="`labels` must be one integer"):
        weighted_knn(BANK, LABELS[:-1], QUERIES)
    with pytest.raises(ValueError, match="`labels` must be one integer"):
        weighted_knn(BANK, LABELS.astype(float), QUERIES)
    with pytest.raises(ValueError, match="`train` must be finite"):
        weighted_knn(np.where(BANK > 2, np.nan, BANK), LABELS, QUERIES)
    with pytest.raises(ValueError, match="the bank itself"):
        weighted_knn(BANK, LABELS, QUERIES, leave_one_out=True)
