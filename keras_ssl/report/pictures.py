"""Sections of the report that show images."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ssl.report.charts import picture, section

QUERIES, NEIGHBOURS = 8, 6
VIEW_ROWS, VIEW_COLUMNS, PAIRS, SAMPLES = 12, 10, 24, 48


def views(rows: Any) -> str:
    """Views of some images, (n, V, H, W, C) or, where sizes differ, n lists of images."""
    rows = [[np.asarray(view) for view in row[:VIEW_COLUMNS]] for row in rows[:VIEW_ROWS]]
    shapes = [view.shape for row in rows for view in row]
    if any(len(shape) not in (3, 4) for shape in shapes):
        raise ValueError(
            "`views` must have the shape (images, views, height, width, channels), or be a list "
            f"of lists of images. Received: images of shape {shapes[0]}."
        )
    note = "Each group is one image, as the model sees it under different draws."
    return section("Views", note, _strips(rows))


def reconstructions(pairs: Any) -> str:
    """Images (n, 2, H, W, C), each beside what a method gave back; (n, 3, ...) with what it saw."""
    pairs = np.asarray(pairs)
    if pairs.ndim != 5 or pairs.shape[1] not in (2, 3):
        raise ValueError(
            "`reconstructions` must have the shape (images, 2, height, width, channels): each "
            "image and its reconstruction; or 3, with what was seen of it between. "
            f"Received: shape {pairs.shape}."
        )
    note = "Left an image, right its reconstruction"
    note += "." if pairs.shape[1] == 2 else "; between them what the encoder saw, the rest grey."
    return section("Reconstructions", note, _strips(pairs[:PAIRS]))


def interpolations(lines: Any) -> str:
    """Images (n, steps, H, W, C): two real ones at the ends, and those between them."""
    lines = np.asarray(lines)
    if lines.ndim != 5 or lines.shape[1] < 3:
        raise ValueError(
            "`interpolations` must have the shape (lines, images, height, width, channels), with "
            f"three images or more. Received: shape {lines.shape}."
        )
    note = "Left and right an image; between them decoded codes, from one to the other."
    return section("Interpolations", note, _strips(lines))


def samples(images: Any) -> str:
    """Images (n, H, W, C) that a generative model made."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "`samples` must have the shape (images, height, width, channels). "
            f"Received: shape {images.shape}."
        )
    tags = "".join(picture(image) for image in images[:SAMPLES])
    return section(
        "Samples", "Drawn from the model, not chosen.", f"<div class='grid'>{tags}</div>"
    )


def attention(rows: Any) -> str:
    """Images (n, m, H, W, C), each followed by itself, dark where the network does not look."""
    rows = np.asarray(rows)
    if rows.ndim != 5:
        raise ValueError(
            "`attention` must have the shape (images, maps, height, width, channels). "
            f"Received: shape {rows.shape}."
        )
    note = (
        "Left an image; then where the last block looks: the mean of all heads, then head by "
        "head. Dark patches hardly enter the features."
    )
    return section("Attention", note, _strips(rows))


def clusters(
    images: np.ndarray,
    groups: Sequence[Sequence[int]],
    labels: np.ndarray | None,
    class_names: Sequence[str] | None,
) -> str:
    """What some clusters hold: a line of images for each, the most frequent class before it."""
    body = ""
    for group in groups:
        tags, known = "", [] if labels is None else [k for k in labels[list(group)] if k >= 0]
        common = max(known, key=known.count) if known else None
        for place in group:
            label = None if labels is None else labels[place]
            kind = "" if common is None or label < 0 else ("right" if label == common else "wrong")
            tags += picture(images[place], kind, class_name(label, class_names))
        name = "" if common is None else html.escape(class_name(common, class_names))
        body += f"<tr><td>{name}</td><td><div class='strip'>{tags}</div></td></tr>"
    note = "Some images of the largest clusters, among the images shown to the monitor."
    if labels is not None:
        note += " Before them the class that most of them have: green, others dashed red."
    heads = "<tr><th></th><th>images</th></tr>"
    table = f"<div class='scroll'><table class='near'>{heads}{body}</table></div>"
    return section("Clusters", note, table)


def _strips(rows: Any) -> str:
    """Groups of images, each in a line."""
    strips = (f"<div class='strip'>{''.join(map(picture, row))}</div>" for row in rows)
    return f"<div class='strips'>{''.join(strips)}</div>"


def neighbours(
    images: np.ndarray,
    features: np.ndarray,
    untrained: np.ndarray | None,
    labels: np.ndarray | None,
    class_names: Sequence[str] | None,
) -> str:
    """Some images, each with those whose features are nearest to its own."""
    queries = _queries(len(images), labels)
    spaces = {"trained": features}
    if untrained is not None and np.isfinite(untrained).all():
        spaces["untrained"] = untrained
    found = {name: nearest(space, queries) for name, space in spaces.items()}
    body = ""
    for place, query in enumerate(queries):
        own = None if labels is None else labels[query]
        cells = f"<td>{picture(images[query], label=class_name(own, class_names))}</td>"
        for name in spaces:
            tags = ""
            for near in found[name][place]:
                other = None if labels is None else labels[near]
                kind = "" if own is None or own < 0 else ("right" if other == own else "wrong")
                tags += picture(images[near], kind, class_name(other, class_names))
            cells += f"<td><div class='strip'>{tags}</div></td>"
        body += f"<tr>{cells}</tr>"
    heads = "".join(f"<th>{name} encoder: nearest first</th>" for name in spaces)
    note = "By cosine similarity of features, among the images shown to the monitor."
    if labels is not None:
        note += " A line below: green is the query's class, dashed red another."
    table = f"<div class='scroll'><table class='near'><tr><th>query</th>{heads}</tr>{body}</table>"
    return section("Nearest neighbours", note, table + "</div>")


def _queries(count: int, labels: np.ndarray | None) -> np.ndarray:
    """A few images, the same for every run on the same set; of different classes where known."""
    order = np.random.default_rng(0).permutation(count)
    if labels is not None:
        _, first = np.unique(labels[order], return_index=True)
        order = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    return order[:QUERIES]


def nearest(features: np.ndarray, queries: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """For each of `queries`, the rows of `features` (N, D) of greatest cosine, best first.

    At most `count` of them; the query itself is none.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    count = min(count, len(features) - 1)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def class_name(label: Any, class_names: Sequence[str] | None) -> str:
    """What to call a class; nothing where there is no label."""
    if label is None or label < 0:
        return ""
    named = class_names is not None and int(label) < len(class_names)
    return str(class_names[int(label)]) if named else f"class {int(label)}"
