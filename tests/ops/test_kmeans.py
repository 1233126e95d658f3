"""k-means, whitening and measures of assignments: what their equations imply."""

import numpy as np
import pytest

from keras_ssl.ops import clustering

RNG = np.random.default_rng(0)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def blobs(centres, n=20, spread=0.05):
    """n points around each centre, in random order, and whose they are."""
    which = RNG.permutation(np.repeat(np.arange(len(centres)), n))
    return (centres[which] + spread * RNG.normal(size=(len(which), centres.shape[1]))), which


def same_up_to_numbers(a, b):
    return len(set(zip(a, b))) == len(set(a)) == len(set(b))


def split_blocks(monkeypatch, numbers=64):
    monkeypatch.setattr(clustering, "_BLOCK", numbers)


# whitening


def test_whitened_axes_have_variance_one_and_no_correlation(monkeypatch):
    mix = RNG.normal(size=(6, 6)) * [5, 3, 2, 1, 0.5, 0.3]
    x = (RNG.normal(size=(400, 6)) @ mix + 7).astype("float32")
    mean, axes = clustering._principal_axes(x, 4, 0)
    y = (x - mean) @ axes
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(4), atol=1e-3)
    largest = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1][:4]  # the four of largest variance
    np.testing.assert_allclose(1 / np.sum(axes**2, axis=0), largest, rtol=1e-2)
    split_blocks(monkeypatch)
    np.testing.assert_allclose(clustering.pca_whitened(x, 4), unit(y), atol=1e-3)


def test_units_that_never_differ_are_left_out():
    x = RNG.random((50, 4)).astype("float32")
    x[:, 1] = 3.0
    y = clustering.pca_whitened(x, 256)
    assert y.shape == (50, 3) and np.isfinite(y).all()
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, atol=1e-5)


def test_features_that_have_collapsed_are_whitened_to_zeros():
    y = clustering.pca_whitened(np.ones((9, 4), "float32"))
    assert y.shape == (9, 1) and not y.any()
    assert set(clustering.kmeans(y, 3)) == {0}


def test_axes_of_many_points_are_those_of_a_sample(monkeypatch):
    x = (RNG.normal(size=(3000, 3)) * [3, 2, 1]).astype("float32")
    whole = clustering.pca_whitened(x)
    monkeypatch.setattr(clustering, "_SAMPLE", 1500)
    found, again, other = (clustering.pca_whitened(x, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, other)
    assert np.mean(np.abs(np.sum(found * whole, axis=1))) > 0.99


# k-means


def test_kmeans_finds_clusters():
    x, which = blobs(5 * np.eye(4))
    labels = clustering.kmeans(x, 4, seed=3)
    assert labels.dtype == np.int32 and same_up_to_numbers(labels, which)


def test_kmeans_is_a_fixed_point_of_its_two_steps():
    x = RNG.normal(size=(300, 5)).astype("float32")
    labels = clustering.kmeans(x, 7, rounds=100)
    centroids = np.stack([x[labels == k].mean(0) for k in range(7)])
    np.testing.assert_array_equal(clustering.nearest(x, centroids), labels)


def test_nearest_is_the_smallest_distance_whatever_the_order(monkeypatch):
    x, c = (RNG.normal(size=(n, 3)).astype("float32") for n in (101, 9))
    distances = ((x[:, None] - c[None]) ** 2).sum(-1)
    split_blocks(monkeypatch)
    np.testing.assert_array_equal(clustering.nearest(x, c), distances.argmin(1))
    order = RNG.permutation(101)
    np.testing.assert_array_equal(clustering.nearest(x[order], c), distances.argmin(1)[order])


@pytest.mark.parametrize("distinct", [40, 12])
def test_no_cluster_is_empty_while_points_differ(distinct):
    """Starts from few of many equal points leave clusters empty, which are filled."""
    x = RNG.normal(size=(distinct, 3)).repeat(10, axis=0).astype("float32")
    for seed in range(5):
        labels = clustering.kmeans(x, 12, rounds=3, seed=seed)
        assert np.bincount(labels, minlength=12).min() > 0
        by_point = labels.reshape(distinct, 10)  # equal points share a cluster
        assert (by_point == by_point[:, :1]).all()


def test_clusters_stay_empty_where_there_are_fewer_points():
    x = np.repeat(np.eye(3, dtype="float32"), 5, axis=0)
    labels = clustering.kmeans(x, 6)
    assert len(set(labels)) == 3 and same_up_to_numbers(labels, np.arange(15) // 5)


def test_filling_divides_the_largest_cluster():
    x = np.array([[0.0], [1.0], [2.0], [9.0], [30.0], [31.0]])
    labels, counts = np.array([0, 0, 0, 0, 1, 1]), np.array([4, 2, 0])
    sums = np.array([[12.0], [61.0], [0.0]])
    clustering._fill_empty(x, labels, sums, counts)
    assert labels.tolist() == [0, 0, 0, 2, 1, 1] and counts.tolist() == [3, 2, 1]
    assert sums.ravel().tolist() == [3, 61, 9]


def test_kmeans_of_blocks_of_a_mapped_file_is_that_of_the_array(monkeypatch, tmp_path):
    x = RNG.normal(size=(200, 6)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = clustering.kmeans(x, 8, seed=[1, 2]), clustering.spherical_kmeans(unit(x), 8)[1]
    split_blocks(monkeypatch)
    parts = clustering.kmeans(mapped, 8, seed=[1, 2]), clustering.spherical_kmeans(unit(x), 8)[1]
    for a, b in zip(whole, parts):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cluster", [clustering.kmeans, clustering.spherical_kmeans])
def test_wrong_numbers_are_refused(cluster):
    x = np.eye(4, dtype="float32")
    with pytest.raises(ValueError, match="`num_clusters`.*5 and 4 points"):
        cluster(x, 5)
    with pytest.raises(ValueError, match="`rounds` must be >= 1"):
        cluster(x, 2, rounds=0)
    with pytest.raises(ValueError, match="`dim` must be >= 1"):
        clustering.pca_whitened(x, 0)


# spherical k-means


def test_the_mean_cosine_never_falls():
    x = unit(RNG.normal(size=(400, 8)))
    values = []
    for rounds in range(1, 9):
        centroids, labels = clustering.spherical_kmeans(x, 12, rounds, seed=1)
        values.append(np.sum(x * centroids[labels], axis=1).mean())
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(labels, np.argmax(x @ centroids.T, axis=1))
    assert (np.diff(values) > -1e-6).all() and values[-1] > values[0] + 0.01


def test_as_many_clusters_as_points_are_the_points():
    x = unit(RNG.normal(size=(20, 4)))
    centroids, labels = clustering.spherical_kmeans(x, 20, rounds=3)
    assert sorted(labels) == list(range(20))
    np.testing.assert_allclose(centroids[labels], x, atol=1e-6)


def test_equal_points_share_a_cluster_and_empty_ones_keep_their_centroid():
    x = unit(RNG.normal(size=(5, 4))).repeat(4, axis=0)
    centroids, labels = clustering.spherical_kmeans(x, 20, rounds=3)
    assert (labels.reshape(5, 4) == labels[::4, None]).all() and len(set(labels)) == 5
    assert len(np.unique(centroids.round(4), axis=0)) == 5  # those of empty ones are points, too


def test_spherical_kmeans_finds_directions():
    x, which = blobs(np.eye(4), spread=0.1)
    best = max(
        (clustering.spherical_kmeans(unit(x), 4, seed=s) for s in range(5)),
        key=lambda found: np.sum(unit(x) * found[0][found[1]]),
    )
    assert same_up_to_numbers(best[1], which)


# measures


def test_agreement_in_closed_form():
    a = np.array([0, 0, 1, 1, 2, 2])
    assert clustering.agreement(a, 5 - a) == pytest.approx(1)
    assert clustering.agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
    # I = H(b) = log 2 and H(a) = 2 log 2, as a tells b.
    four, two = np.arange(4), np.arange(4) // 2
    assert clustering.agreement(four, two) == pytest.approx(2 / 3)


def test_points_without_a_cluster_do_not_agree_or_differ():
    a, b = np.array([0, 0, 1, 1, -1]), np.array([1, 1, 0, -1, 0])
    assert clustering.agreement(a, b) == pytest.approx(1)
    assert clustering.agreement(np.full(5, -1), b) == 0


def test_evenness_is_the_entropy_of_the_sizes():
    assert clustering.evenness([3, 3, 3]) == pytest.approx(1)
    assert clustering.evenness([9, 0, 0]) == 0 == clustering.evenness([0, 0])
    assert clustering.evenness([2, 2, 0, 0]) == pytest.approx(0.5)


def test_means_are_those_of_the_points_of_each_cluster(monkeypatch):
    split_blocks(monkeypatch)
    points, labels = RNG.normal(size=(50, 4)).astype("float32"), RNG.integers(0, 3, 50)
    found = clustering.means(points, labels, 4)
    for k in range(3):
        np.testing.assert_allclose(found[k], points[labels == k].mean(0), atol=1e-5)
    np.testing.assert_array_equal(found[3], 0)
