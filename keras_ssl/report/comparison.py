"""The page on a comparison of methods: a table, curves of all, and a map of each.

Like the page on a run it is a single file: no scripts, no network, light and dark.
"""

import dataclasses
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.report.charts import curves, grid, map_legend, scatter, section, table
from keras_ssl.report.page import TONES, by_class, framed, rewrite
from keras_ssl.report.projection import project


@dataclasses.dataclass(frozen=True)
class Line:
    """What the page shows of one method.

    Attributes:
        name: of the method.
        cells: text by column of the table.
        knn: kNN accuracy by epoch, the untrained network first; empty where there is none.
        verdicts: status and message of the collapse monitor, and the address of the run's page
            beside this one, by seed.
        features: (N, D) of the images of the maps, or None.
    """

    name: str
    cells: Mapping[str, str]
    knn: Sequence[float] = ()
    verdicts: Mapping[str, tuple[str, str, str]] = dataclasses.field(default_factory=dict)
    features: np.ndarray | None = None


def write_comparison(
    path: pathlib.Path,
    *,
    title: str,
    lines: Sequence[Line],
    note: str,
    settings: Mapping[str, Any],
    seeds: Mapping[str, Mapping[str, str]],
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    failed: str = "",
) -> pathlib.Path:
    """Write the page of a comparison; the file appears whole or not at all.

    Args:
        path: the HTML file.
        title: heading of the page.
        lines: the methods, in the order of the table.
        note: what the reader should know of the table.
        settings: what the runs share, as a table.
        seeds: values by seed, by the names of method and score.
        labels: (N,) integer classes of the images of the maps.
        class_names: name of each class.
        failed: what to say of runs that failed, if any did.

    Returns:
        the path.
    """
    verdict = {"status": "failed", "message": failed} if failed else None
    sections = [
        section("Methods", html.escape(note), _table(lines)),
        _curves(lines),
        _maps(lines, labels, class_names),
        section("Each seed", "Accuracy in %.", grid(seeds)),
        section("Settings", "", table(settings)),
    ]
    return rewrite(path, framed(title, verdict, sections))


def _table(lines: Sequence[Line]) -> str:
    rows = {}
    for line in lines:
        links = (_link(seed, address) for seed, (_, _, address) in line.verdicts.items())
        # Long reasons of failures must not squeeze the figures.
        cells = {
            name: html.escape(text if name == "failed" else text.replace(" ", "\u00a0"))
            for name, text in line.cells.items()
        }
        rows[line.name] = {**cells, "pages": " ".join(links)}
    return grid(rows)


def _link(seed: str, address: str) -> str:
    return f"<a href='{html.escape(address, quote=True)}'>seed&nbsp;{html.escape(seed)}</a>"


def _curves(lines: Sequence[Line]) -> str:
    shown = {line.name: list(line.knn) for line in lines if np.isfinite(line.knn).any()}
    if not shown:
        return ""
    length = max(map(len, shown.values()))
    padded = {name: knn + [np.nan] * (length - len(knn)) for name, knn in shown.items()}
    note = (
        "As the monitor measures it while training, on a part of the images and with fewer "
        "neighbours than in the table; mean over seeds. Epoch 0 is the untrained network."
    )
    return section("kNN accuracy", note, curves("kNN accuracy", list(range(length)), padded))


def _maps(lines: Sequence[Line], labels: np.ndarray, class_names: Sequence[str] | None) -> str:
    figures, legend, methods = "", "", []
    for line in lines:
        if line.features is None and not line.verdicts:
            continue
        drawn = "<p class='note'>No map: the features are too few, or not finite.</p>"
        if line.features is not None and len(line.features) > 2:
            if np.isfinite(line.features).all():
                points, method = project(line.features)
                groups = by_class(points, labels, class_names)
                drawn, legend = scatter(groups, small=True), map_legend(groups)
                methods.append(method)
        figures += f"<div><h3>{html.escape(line.name)}</h3>{drawn}{_verdicts(line)}</div>"
    note = (
        f"The same {len(labels)} test images, {' and '.join(sorted(set(methods)))} of the features "
        "of the first seed, coloured by class; below, the collapse monitor's verdict on each seed."
    )
    return section(
        "Maps of the embeddings", note, f"{legend}<div class='charts maps'>{figures}</div>"
    )


def _verdicts(line: Line) -> str:
    """The verdict on each seed, and the run's page."""
    said = ""
    for seed, (status, message, address) in line.verdicts.items():
        message = "" if status == "healthy" else message
        said += (
            f"<p>{_link(seed, address)} "
            f"<b class='{TONES.get(status, 'plain')}'>{html.escape(status)}</b> "
            f"{html.escape(message)}</p>"
        )
    return said
