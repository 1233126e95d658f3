"""Clusters of many points: whitening, k-means, and what to judge assignments by.

For work between epochs: NumPy arrays in and out, on the host. Products of points and centroids
alone run in `keras.ops`, on the accelerator where there is one; sums are made on the host, in one
order. So results are functions of the arguments, seed included. Points are read in blocks and may
be memory-mapped: beside them 64 MB are held, or a sample of 131,072 points.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from keras import ops
from tqdm import tqdm

_BLOCK = 2**24  # scores of points against centroids that are made at once
_SAMPLE = 2**17  # points that axes, or the division of a cluster, are found from
_LEAST_VARIANCE = 1e-6  # of an axis, as a share of the first one's; below lie rounding errors
_SAME = 1e-12  # squared distance of points that do not differ


def pca_whitened(points: Any, dim: int = 256, seed: Any = 0) -> np.ndarray:
    """Points on their principal axes, each with variance 1 along all of them, then of unit length.

    With m the mean, and e_j and s_j^2 the axes and variances of the `dim` largest variances,

        y_j = <x - m, e_j> / s_j,    then    y / |y|.

    Caron et al. 2018 (DeepCluster), https://arxiv.org/abs/1807.05520, section 3.4. Departures from
    the authors' code: mean and axes are those of 131,072 points drawn at random, if there are more
    (theirs: of all), and axes whose variance is below a millionth of the largest are left out, as
    those of units that are always 0 (theirs divides by it).

    Args:
        points: `(n, width)`, an array, which may be memory-mapped.
        dim: axes to keep, >= 1.
        seed: of the draw.

    Returns:
        float32 `(n, d)` with d <= dim; rows of zeros for points at the mean.

    Raises:
        ValueError: if `dim` is below 1.
    """
    if dim < 1:
        raise ValueError(f"`dim` must be >= 1. Received: dim={dim}.")
    mean, axes = _principal_axes(points, dim, seed)
    result = np.empty((len(points), axes.shape[1]), "float32")
    for start, block in _blocks(points, points.shape[1]):
        rows = (block - mean) @ axes
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        result[start : start + len(block)] = rows / np.maximum(lengths, 1e-12)
    return result


def kmeans(
    points: Any, num_clusters: int, rounds: int = 20, seed: Any = 0, progress: str | None = None
) -> np.ndarray:
    """Clusters around means: Lloyd's algorithm from random points, without empty clusters.

    Each round assigns every point to the nearest centroid, then moves each centroid to the mean of
    its points. An empty cluster takes those points of the largest one that lie, from the centroid
    of that, towards the farthest of them; it stays empty only where all points of every cluster
    are the same. It ends before `rounds` where nothing changes.

    Caron et al. 2018 (DeepCluster), https://arxiv.org/abs/1807.05520, section 3.3, with the 20
    rounds of the authors' code. Departures from it (faiss): faiss splits a cluster drawn in
    proportion to its size, by shifting centroids a little, and may leave some empty at the end.

    Args:
        points: float `(n, width)`, an array, which may be memory-mapped.
        num_clusters: K, from 1 to n.
        rounds: at most so many, >= 1.
        seed: of the first centroids: whatever `np.random.default_rng` takes.
        progress: what a bar on a terminal is called; None shows none.

    Returns:
        int32 `(n,)`, the cluster of each point, from 0 to K - 1.

    Raises:
        ValueError: if a number is outside its range.
    """
    centroids, before = _start(points, num_clusters, rounds, seed), None
    for turn in _rounds(rounds + 1, progress):
        labels, sums, counts = _assign(points, centroids)
        _fill_empty(points, labels, sums, counts)
        if turn == rounds or (before is not None and np.array_equal(labels, before)):
            break
        used, before = counts > 0, labels
        centroids[used] = sums[used] / counts[used, None]
    return labels


def means(points: Any, labels: Any, num_clusters: int) -> np.ndarray:
    """The mean of the points of each cluster, float32 `(K, width)`; zeros where there are none.

    Args:
        points: `(n, width)`, an array, which may be memory-mapped.
        labels: `(n,)`, the cluster of each, as `kmeans` gives it.
        num_clusters: K.
    """
    labels = np.asarray(labels)
    sums = np.zeros((num_clusters, points.shape[1]))
    for start, block in _blocks(points, points.shape[1]):
        sums += _sums(block, labels[start : start + len(block)], num_clusters)
    counts = np.bincount(labels, minlength=num_clusters)
    return (sums / np.maximum(counts, 1)[:, None]).astype("float32")


def spherical_kmeans(
    points: Any, num_clusters: int, rounds: int = 10, seed: Any = 0, progress: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unit vectors around unit vectors, by their cosine.

    From random points, each of `rounds` rounds assigns every point to the centroid of the largest
    dot product and moves each centroid to the mean of its points, brought to unit length. Centroids
    without points stay where they are. The mean of the largest dot products never falls.

    Caron et al. 2020 (DeepCluster-v2), https://arxiv.org/abs/2006.09882, appendix; the authors'
    code. Departures from it: none known.

    Args:
        points: `(n, width)` of unit length, an array, which may be memory-mapped.
        num_clusters: K, from 1 to n.
        rounds: >= 1.
        seed: of the first centroids: whatever `np.random.default_rng` takes.
        progress: what a bar on a terminal is called; None shows none.

    Returns:
        Centroids, float32 `(K, width)` of unit length, and the number of the nearest one of each
        point, int32 `(n,)`.

    Raises:
        ValueError: if a number is outside its range.
    """
    centroids = _start(points, num_clusters, rounds, seed)
    for _ in _rounds(rounds, progress):
        _, sums, _ = _assign(points, centroids)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # Points that cancel out have no direction: as if there were none.
        centroids = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), centroids)
        centroids = centroids.astype("float32")
    return centroids, nearest(points, centroids)


def nearest(points: Any, centroids: Any) -> np.ndarray:
    """The centroid nearest to each point: int32 `(n,)` for `(n, width)` and `(K, width)`.

    Of unit vectors it is the one of the largest dot product.
    """
    return np.concatenate([labels for _, labels in _nearest_by_block(points, centroids)])


def agreement(first: Any, second: Any) -> float:
    """How much one assignment tells of another: normalised mutual information, from 0 to 1.

        2 I(a, b) / (H(a) + H(b)),

    1 where they are the same up to the clusters' numbers, of those points that have a cluster in
    both; 0 where there are none. Caron et al. 2018, section 4.1.

    Args:
        first: integers `(n,)`; -1 for none.
        second: the same.
    """
    from sklearn.metrics import normalized_mutual_info_score

    first, second = np.asarray(first), np.asarray(second)
    both = (first >= 0) & (second >= 0)
    if not both.any():
        return 0.0
    return float(normalized_mutual_info_score(first[both], second[both]))


def evenness(counts: Any) -> float:
    """How even the sizes of clusters are: their entropy / log K, from 0 (one has all) to 1."""
    shares = np.asarray(counts, "float64") / max(1, np.sum(counts))
    used = shares[shares > 0]
    return float(-np.sum(used * np.log(used)) / np.log(len(shares)))


def _principal_axes(points, dim, seed):
    """The mean, float32 `(width,)`, and the axes divided by their deviations, `(width, <= dim)`."""
    sample = points
    if len(points) > _SAMPLE:
        places = np.random.default_rng(seed).choice(len(points), _SAMPLE, replace=False)
        sample = points[np.sort(places)]  # in order: faster from a disk
    width = sample.shape[1]
    mean = np.mean(sample, axis=0, dtype="float64").astype("float32")
    covariance = np.zeros((width, width))
    for _, block in _blocks(sample, width):
        centred = block - mean
        covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance / len(sample))  # from the smallest on
    kept = variances > max(_LEAST_VARIANCE * variances[-1], np.finfo("float32").tiny)
    if not kept.any():
        return mean, np.zeros((width, 1), "float32")
    scaled = axes[:, kept] / np.sqrt(variances[kept])
    return mean, scaled[:, ::-1][:, :dim].astype("float32")


def _start(points, num_clusters, rounds, seed):
    """Distinct points at random, as float32 `(K, width)`."""
    if not 1 <= num_clusters <= len(points):
        raise ValueError(
            "`num_clusters` must be from 1 to the number of points. Received: "
            f"num_clusters={num_clusters} and {len(points)} points. Ask for fewer clusters."
        )
    if rounds < 1:
        raise ValueError(f"`rounds` must be >= 1. Received: rounds={rounds}.")
    places = np.random.default_rng(seed).choice(len(points), num_clusters, replace=False)
    return np.array(points[np.sort(places)], "float32")


def _rounds(number: int, progress: str | None) -> Iterable[int]:
    """The rounds, which a terminal shows if they take more than some seconds."""
    shown = {"desc": progress, "unit": "round", "leave": False, "delay": 3}
    return tqdm(range(number), disable=None if progress else True, **shown)


def _blocks(points, numbers: int) -> Iterator[tuple[int, np.ndarray]]:
    """The points in blocks, with the place of the first; `numbers`: made of each point."""
    rows = max(1, _BLOCK // max(1, numbers))
    for start in range(0, len(points), rows):
        yield start, np.asarray(points[start : start + rows], "float32")


def _nearest_by_block(points, centroids) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points of a block, and the number of the centroid nearest to each."""
    centroids = np.asarray(centroids, "float32")
    columns = ops.convert_to_tensor(np.ascontiguousarray(centroids.T))
    # |x - c|^2 is smallest where <x, c> - |c|^2 / 2 is largest.
    halves = ops.convert_to_tensor(0.5 * np.sum(np.square(centroids), axis=1))
    for _, block in _blocks(points, max(centroids.shape)):
        scores = ops.matmul(ops.convert_to_tensor(block), columns) - halves
        yield block, ops.convert_to_numpy(ops.argmax(scores, axis=-1)).astype("int32")


def _assign(points, centroids):
    """The nearest centroid of each point, and of each centroid the sum and number of its points."""
    number = len(centroids)
    labels, sums, counts = [], np.zeros(centroids.shape), np.zeros(number, "int64")
    for block, own in _nearest_by_block(points, centroids):
        sums += _sums(block, own, number)
        counts += np.bincount(own, minlength=number)
        labels.append(own)
    return np.concatenate(labels), sums, counts


def _sums(block, labels, number):
    """Sums of the rows of each cluster, float64 `(number, width)`."""
    from scipy.sparse import csc_matrix

    columns = (np.ones(len(labels)), labels, np.arange(len(labels) + 1))
    return csc_matrix(columns, shape=(number, len(labels))) @ block


def _fill_empty(points, labels, sums, counts):
    """Divide large clusters, so that no cluster stays empty; changes its last three arguments."""
    divisible = counts > 1
    for empty in np.flatnonzero(counts == 0):
        while divisible.any():
            donor = np.argmax(np.where(divisible, counts, 0))
            members = np.flatnonzero(labels == donor)
            members = members[:_SAMPLE]  # the next round sorts the others
            rows = np.asarray(points[members], "float64")
            centred = rows - np.mean(rows, axis=0)
            distances = np.sum(np.square(centred), axis=1)
            if distances.max() < _SAME:
                divisible[donor] = False
                continue
            taken = centred @ centred[np.argmax(distances)] > 0
            labels[members[taken]] = empty
            sums[empty] = np.sum(rows[taken], axis=0)
            sums[donor] -= sums[empty]
            counts[empty] = taken.sum()
            counts[donor] -= counts[empty]
            divisible[[empty, donor]] = counts[[empty, donor]] > 1
            break
