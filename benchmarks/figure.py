r"""Draws the README's picture from the run folder of `make demo`.

python -m benchmarks.figure runs/demo benchmarks/figures/simclr_shapes.png
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

import keras_ssl

ROWS, NEIGHBOURS = 6, 6


def draw(run, out):
    """Two views of some images, their nearest neighbours, maps of pixels and of embeddings.

    All from the test split, which training has not seen. The queries are the first images of six
    classes: nothing is chosen.
    """
    encoder = tf.saved_model.load(str(pathlib.Path(run) / "encoder"))
    source = keras_ssl.data.load("shapes", split="test")
    images, labels = source.arrays((32, 32))
    features = encoder.serve_uint8(images).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    _, queries = np.unique(labels, return_index=True)
    queries = np.sort(queries)[:ROWS]
    similarity = features[queries] @ features.T
    similarity[np.arange(ROWS), queries] = -1
    nearest = np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]
    make_views = keras_ssl.views.simclr(32)
    pairs = [make_views(tf.constant(images[q]), tf.constant([3, q]))["views"] for q in queries]

    figure = Figure(figsize=(12, 4), layout="constrained")
    views, near, maps = figure.subfigures(1, 3, width_ratios=[3, 7, 7.5])
    _grid(views, "an image, two views", [[images[q], *p] for q, p in zip(queries, pairs)])
    rows = [images[[q, *n]] for q, n in zip(queries, nearest)]
    grid = _grid(near, "nearest neighbours (red: another shape)", rows)
    for axes, query, others in zip(grid, queries, nearest):
        for place, other in zip(axes[1:], others):
            if labels[other] != labels[query]:
                _frame(place, "red")
    wrong = np.mean(labels[nearest] != labels[queries, None])
    left, right = maps.subplots(1, 2, width_ratios=[1, 2])
    _map(left, "t-SNE of pixels", images.reshape(len(images), -1) / 255, labels, 3)
    centres = _map(right, "t-SNE of features, a colour a shape", features, labels, 8)
    for label, centre in centres.items():
        name = source.class_names[label]
        right.annotate(name, centre, ha="center", va="center", fontsize=9, bbox=_LABEL)
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    print(f"{len(queries)} queries, {wrong:.0%} of their {NEIGHBOURS} nearest of another shape")


_LABEL = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def _grid(part, title, rows):
    part.suptitle(title)
    grid = part.subplots(len(rows), len(rows[0]))
    for axes, row in zip(grid, rows):
        for place, image in zip(axes, row):
            place.imshow(np.asarray(image))
            place.set_axis_off()
    return grid


def _frame(axes, colour):
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(color=colour, linewidth=2)


def _map(axes, title, vectors, labels, size):
    """Scatter the t-SNE of `vectors`; returns the median place of each label."""
    with threadpool_limits(1):  # on shared cores, threads of a small task mostly wait
        points = TSNE(random_state=0).fit_transform(vectors)
    axes.scatter(*points.T, c=labels, s=size, cmap="tab10")
    axes.set_title(title)
    axes.set_axis_off()
    return {label: np.median(points[labels == label], axis=0) for label in np.unique(labels)}


if __name__ == "__main__":
    draw(*sys.argv[1:])
