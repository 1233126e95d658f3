"""One HTML page on a run: verdict, curves, views, nearest neighbours, a map of the embeddings.

The page is a single file: no scripts, no network, inline SVG and PNG, light and dark.
"""

import html
import math
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.report import pictures
from keras_ssl.report.charts import (
    PAGE,
    chart,
    epoch_table,
    histogram,
    scatter,
    section,
    table,
    text,
)
from keras_ssl.report.pictures import class_name
from keras_ssl.report.projection import project

MAP_POINTS = 1000
PANELS = (  # title, columns of the metrics, what the reader should know
    ("Loss", ("loss",), ""),
    ("kNN accuracy", ("knn",), "higher is better"),
    ("Bits per dimension", ("bits_per_dim",), "lower is better"),
    ("Bits per pixel in the palette", ("bits_per_pixel",), "lower is better"),
    ("Spread, std·√D", ("features_std", "embedding_std"), "0 is collapse, 1 is even"),
    ("RankMe", ("features_rankme", "embedding_rankme"), "directions in use"),
    ("Effective rank", ("features_effective_rank", "embedding_effective_rank"), "centred"),
    ("Uniformity", ("features_uniformity", "embedding_uniformity"), "lower is more even"),
    ("Alignment", ("features_alignment", "embedding_alignment"), "distance of two views"),
    ("Dead dimensions", ("features_dead", "embedding_dead"), "fraction"),
)
TONES = {
    "healthy": "good",
    "warning": "warn",
    "dimensional collapse": "bad",
    "collapsed": "bad",
    "diverged": "bad",
    "failed": "bad",
}


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    settings: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    views: Any = None,
    reconstructions: Any = None,
    interpolations: Any = None,
    samples: Any = None,
    attention: Any = None,
    clusters: Any = None,
    code_lengths: Any = None,
    code_unit: str = "dimension",
    images: Any = None,
    features: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    verdict: Any = None,
    extra: Mapping[str, Any] | None = None,
    untrained_features: Any = None,
) -> pathlib.Path:
    """Write the report of a run; the file appears whole or not at all.

    Args:
        path: the HTML file; its folder is made if need be.
        title: heading of the page.
        settings: the run's settings, as a table.
        metrics: a row per epoch: "epoch", "loss", "knn", "features_std" and any other figures;
            values that are missing or not finite leave gaps.
        views: (n, V, H, W, C), V views of n images as the model sees them, or, where the views of
            an image differ in size, a list of n lists of images; 12 rows are shown.
        reconstructions: (n, 2, H, W, C), images beside their reconstructions, or (n, 3, H, W, C)
            with what the method saw of them between; 24 are shown.
        interpolations: (n, steps, H, W, C), lines of images from one real image to another.
        samples: (n, H, W, C), images drawn from a generative model; 48 are shown.
        attention: (n, m, H, W, C), images, each followed by itself, dark where the network does not
            look.
        clusters: a sequence of integers for each cluster to show, places in `images`.
        code_lengths: (n,), bits of n images; infinite ones are counted.
        code_unit: what these bits are for: "dimension" or "pixel".
        images: (N, H, W, C), uint8 or floats in [0, 1], any number of channels.
        features: (N, D) of those images, for neighbours and map.
        labels: (N,) integer classes of the images, for colours and right or wrong.
        class_names: name of each class.
        verdict: a `Verdict`, or a mapping with "status" and "message", or a text.
        extra: results by name, shown at the top.
        untrained_features: (N, D) of the same images before training, to compare neighbours.

    Returns:
        the path.

    Raises:
        ValueError: features, labels and images differ in number, or pictures have another shape.
    """
    images, features, labels, untrained = (
        None if array is None else np.asarray(array)
        for array in (images, features, labels, untrained_features)
    )
    _check(images, features, labels, untrained)
    sections = [_results(extra), _curves(metrics)]
    if views is not None:
        sections.append(pictures.views(views))
    if reconstructions is not None:
        sections.append(pictures.reconstructions(reconstructions))
    if interpolations is not None:
        sections.append(pictures.interpolations(interpolations))
    if samples is not None:
        sections.append(pictures.samples(samples))
    if attention is not None:
        sections.append(pictures.attention(attention))
    if code_lengths is not None:
        sections.append(_lengths(np.asarray(code_lengths, float), code_unit))
    if clusters is not None and images is not None:
        sections.append(pictures.clusters(images, clusters, labels, class_names))
    if features is not None and not np.isfinite(features).all():
        note = "<p>The features hold NaN or infinity, so there is nothing to show.</p>"
        sections.append(section("Features", "", note))
    elif features is not None:
        if images is not None and len(features) > 2:
            sections.append(pictures.neighbours(images, features, untrained, labels, class_names))
        if len(features) > 2:
            sections.append(_map(features, labels, class_names))
    sections += [
        section("Settings", "", table(settings or {"": "none given"})),
        epoch_table(metrics),
    ]
    return rewrite(pathlib.Path(path), framed(title, verdict, sections))


def framed(title: str, verdict: Any, sections: Sequence[str]) -> str:
    """A page of sections under a heading and a verdict."""
    page = PAGE.replace("{{title}}", html.escape(str(title)))
    return page.replace("{{verdict}}", _verdict(verdict)).replace("{{body}}", "".join(sections))


def _check(images: Any, features: Any, labels: Any, untrained: Any) -> None:
    counts = {
        name: len(array)
        for name, array in (
            ("images", images),
            ("features", features),
            ("labels", labels),
            ("untrained_features", untrained),
        )
        if array is not None
    }
    if len(set(counts.values())) > 1:
        raise ValueError(
            "`images`, `features`, `labels` and `untrained_features` must describe the same "
            f"images. Received: {counts} of them."
        )


def rewrite(path: pathlib.Path, page: str) -> pathlib.Path:
    """Write a page so that a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
    return path


def _verdict(verdict: Any) -> str:
    if verdict is None:
        return ""
    if isinstance(verdict, str):
        verdict = {"status": "", "message": verdict}
    elif not isinstance(verdict, Mapping):
        verdict = {"status": verdict.status, "message": verdict.message}
    status, message = str(verdict["status"]), html.escape(str(verdict["message"]))
    name = f"<strong>{html.escape(status.capitalize())}</strong>" if status else ""
    return f"<div class='verdict {TONES.get(status, 'plain')}'>{name}<p>{message}</p></div>"


def _results(extra: Mapping[str, Any] | None) -> str:
    """Short values as large figures, long ones as a table below."""
    shown = {str(name): text(value) for name, value in (extra or {}).items()}
    if not shown:
        return ""
    long = {name: value for name, value in shown.items() if len(value) > 20}
    tiles = "".join(
        f"<div class='tile'><b>{html.escape(value)}</b>{html.escape(name)}</div>"
        for name, value in shown.items()
        if name not in long
    )
    below = table(long) if long else ""
    return f"<section><div class='tiles'>{tiles}</div>{below}</section>"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    known = {name for _, names, _ in PANELS for name in names}
    names = dict.fromkeys(str(name) for row in metrics for name in row)
    others = [n for n in names if n not in known and n != "epoch" and not n.endswith("_max_rank")]
    parts = ((name.replace("_", " "), (name,), "") for name in others)
    panels = [PANELS[0], *parts, *PANELS[1:]]  # unknown columns are mostly terms of the loss
    epochs = [_number(row.get("epoch", place)) for place, row in enumerate(metrics)]
    charts = []
    for title, columns, note in panels:
        series = {c: [_number(row.get(c)) for row in metrics] for c in columns}
        series = {c: v for c, v in series.items() if np.isfinite(v).any()}
        if series:
            charts.append(chart(title, note, epochs, series))
    if not charts:
        return ""
    return section("Training", "", f"<div class='charts'>{''.join(charts)}</div>")


def _lengths(lengths: np.ndarray, unit: str) -> str:
    finite = lengths[np.isfinite(lengths)]
    note = f"Of {len(lengths)} images" + ("; 8 is a uniform guess." if unit == "dimension" else ".")
    if len(finite) < len(lengths):
        note += f" {len(lengths) - len(finite)} are not finite and left out."
    body = histogram(f"Bits per {unit}", finite) if len(finite) else ""
    return section("Code lengths", note, body)


def _map(features: np.ndarray, labels: np.ndarray | None, class_names: Sequence[str] | None) -> str:
    chosen = np.random.default_rng(0).permutation(len(features))[:MAP_POINTS]
    points, method = project(features[chosen])
    note = f"{len(chosen)} images, {method} of their features. "
    groups = by_class(points, None if labels is None else labels[chosen], class_names)
    if labels is None:
        note += "No labels were given."
    else:
        note += f"Coloured by class ({len(groups)}), which training has not seen."
    return section("Map of the embeddings", note, scatter(groups))


def by_class(
    points: np.ndarray, labels: np.ndarray | None, class_names: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Points by the name of their class; without labels, all under an empty name."""
    if labels is None:
        return {"": points}
    names = [class_name(label, class_names) or "no label" for label in labels]
    return {name: points[[other == name for other in names]] for name in sorted(set(names))}
