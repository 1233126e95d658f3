r"""Draws the README's picture from the run folder of `make demo`.

python -m benchmarks.figure runs/demo benchmarks/figures/simclr_shapes.png
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

import keras_ssl

ROWS, NEIGHBOURS, POINTS = 6, 5, 1000


def draw(run, out):
    """Two views of some images, their nearest neighbours, and a map of the embeddings."""
    encoder = tf.saved_model.load(str(pathlib.Path(run) / "encoder"))
    source = keras_ssl.data.load("shapes", split="test")
    images, labels = source.arrays((32, 32), POINTS)
    features = encoder.serve_uint8(images).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    queries = [int(np.flatnonzero(labels == label)[0]) for label in (0, 1, 3, 5, 6, 8)]
    nearest = np.argsort(-features[queries] @ features.T, axis=1)[:, 1 : NEIGHBOURS + 1]
    make_views = keras_ssl.views.simclr(32)
    pairs = [make_views(tf.constant(images[q]), tf.constant([3, q]))["views"] for q in queries]

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[3, 6, 5])
    _grid(left, "image and two views", [[images[q], *p] for q, p in zip(queries, pairs)])
    _grid(middle, "nearest neighbours", [[images[q], *images[n]] for q, n in zip(queries, nearest)])
    right.suptitle("embeddings (t-SNE), a colour a shape")
    axes = right.subplots()
    axes.scatter(*TSNE(random_state=0).fit_transform(features).T, c=labels, s=6, cmap="tab10")
    axes.set_axis_off()
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


def _grid(part, title, rows):
    part.suptitle(title)
    for axes, image in zip(part.subplots(len(rows), len(rows[0])).flat, sum(rows, [])):
        axes.imshow(np.asarray(image))
        axes.set_axis_off()


if __name__ == "__main__":
    draw(*sys.argv[1:])
