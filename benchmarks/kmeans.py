r"""What k-means between epochs costs, by the number of features and of clusters.

    python -m benchmarks.kmeans [--sizes=10k,100k] [--clusters=100,1000] [--record]

Seconds, and the mean squared distance of points from the means of their clusters that is left, for
unit vectors drawn around as many centres as there are clusters:

- `whitening`: principal axes of 512 numbers, down to 256 (`ops.clustering.pca_whitened`).
- `k-means`: DeepCluster's, 20 rounds at most, of 256 numbers.
- `spherical k-means`: that of one head of DeepCluster-v2, 10 rounds, of 128 numbers.
- `MiniBatchKMeans`: scikit-learn's on the features of `k-means`, in batches of 8,192; with
  `--sklearn` alone.

ImageNet has 1.3 million images, DeepCluster 10,000 clusters, DeepCluster-v2 three heads of 3,000:
`--sizes=1300k --clusters=3000,10000`. Features of 512 numbers take 2.7 GB then.
"""

import sys
import time

import numpy as np
from absl import app, flags

from benchmarks import results

flags.DEFINE_list("sizes", ["10k", "100k"], "Features: numbers, or such with k or M.")
flags.DEFINE_list("clusters", ["100", "1000"], "Clusters: numbers, or such with k.")
flags.DEFINE_bool("sklearn", False, "Whether to time scikit-learn's MiniBatchKMeans, too.")
flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
FLAGS = flags.FLAGS

WIDTH, WHITENED, EMBEDDED = 512, 256, 128
HEAD = ["", "features", "clusters", "seconds", "squared distances"]


def number(text):
    """Whole number from `1000`, `1k` or `1M`."""
    unit = {"k": 1_000, "M": 1_000_000}.get(text[-1:])
    return int(text[:-1]) * unit if unit else int(text)


def features(size, clusters, width):
    """float32 `(size, width)`: unit vectors around random ones, each of the clusters alike."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, width), "float32")
    x = centres[rng.integers(clusters, size=size)]
    x += rng.standard_normal((size, width), "float32")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances(x, labels, clusters):
    """Mean squared distance of unit vectors from the means of their clusters."""
    from scipy.sparse import csc_matrix

    members = csc_matrix((np.ones(len(x)), labels, np.arange(len(x) + 1)), (clusters, len(x)))
    counts = np.bincount(labels, minlength=clusters)
    return 1 - np.sum(np.square(members @ x) / np.maximum(counts, 1)[:, None]) / len(x)


def timed(function):
    """What `function` gives, and the seconds it took."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def whitening(size):
    """Seconds of the whitening of so many features."""
    from keras_ssl.ops import clustering

    x = features(size, 100, WIDTH)
    return timed(lambda: clustering.pca_whitened(x, WHITENED))[1]


def turns(size, clusters):
    """(name, seconds, mean squared distance) of each contestant."""
    from keras_ssl.ops import clustering

    x = features(size, clusters, WHITENED)
    labels, seconds = timed(lambda: clustering.kmeans(x, clusters))
    yield "k-means", seconds, distances(x, labels, clusters)
    if FLAGS.sklearn:
        from sklearn.cluster import MiniBatchKMeans

        other = MiniBatchKMeans(clusters, init="random", n_init=1, batch_size=8192, random_state=0)
        labels, seconds = timed(lambda: other.fit_predict(x))
        yield "MiniBatchKMeans", seconds, distances(x, labels, clusters)
    x = features(size, clusters, EMBEDDED)
    (_, labels), seconds = timed(lambda: clustering.spherical_kmeans(x, clusters))
    yield "spherical k-means", seconds, distances(x, labels, clusters)


def main(_):
    """Print, and with `--record` keep, the table."""
    rows = []

    def add(*cells):
        rows.append([str(cell) for cell in cells])
        print("  ".join(f"{cell:>18}" for cell in rows[-1]), flush=True)

    for size in FLAGS.sizes:
        add("whitening", size, "", f"{whitening(number(size)):.1f}", "")
        for clusters in FLAGS.clusters:
            for name, seconds, left in turns(number(size), number(clusters)):
                add(name, size, clusters, f"{seconds:.1f}", f"{left:.4f}")
    if FLAGS.record:
        command = " ".join(["python -m benchmarks.kmeans", *sys.argv[1:]])
        title = "k-means between epochs (DeepCluster, DeepClusterV2)"
        results.record("speed", title, command, {}, table=[HEAD, *rows])


if __name__ == "__main__":
    app.run(main)
