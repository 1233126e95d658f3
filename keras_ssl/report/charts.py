"""Pieces of the report: the page's frame and style, charts as inline SVG, pictures as tags.

Charts are drawn in marker colours that `_svg` turns into variables of the page, so that they
follow its light or dark scheme.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

PIXELS = 96  # largest side at which an image is shown
SERIES = ("#010101", "#010102")
TOKENS = {"s0": SERIES[0], "s1": SERIES[1], "line": "#010103", "muted": "#010104"}
CLASSES = (
    "#4e79a7 #f28e2b #59a14f #e15759 #b07aa1 #9c755f #ff9da7 #76b7b2 #edc948 #8c8c8c "
    "#2f5d8a #a0cbe8 #ffbe7d #8cd17d #b6992d #499894 #d37295 #fabfd2 #d4a6c8 #79706e"
).split()

SCHEME = """\
:root { --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  --page: #f7f7f5; --card: #ffffff; --ink: #1c1d1f; --muted: #63666b; --line: #e3e3df;
  --s0: #2563a8; --s1: #d0671a; --good: #23823f; --warn: #a86a00; --bad: #c0322b; }
@media (prefers-color-scheme: dark) { :root {
  --page: #16171a; --card: #1f2124; --ink: #e9e9e6; --muted: #a0a4aa; --line: #36393e;
  --s0: #6ea8e6; --s1: #f09a58; --good: #5cc27b; --warn: #e0a63c; --bad: #ef7a70; } }
"""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
{{scheme}}* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 var(--font); font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 8px; } h3 { font-size: 15px; margin: 8px 0 0; }
a { color: var(--s0); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 16px 0; }
.note, figcaption span { color: var(--muted); }
.note { margin: 0 0 12px; max-width: 75ch; }
.verdict { background: var(--card); border: 1px solid var(--line); border-left: 5px solid;
  border-radius: 10px; padding: 14px 20px; margin: 16px 0; }
.verdict strong { font-size: 18px; } .verdict p { margin: 2px 0 0; color: var(--ink);
  max-width: 90ch; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.plain { color: var(--muted); }
.tiles { display: flex; flex-wrap: wrap; gap: 10px 40px; }
.tile { color: var(--muted); font-size: 13px; }
.tile b { display: block; font-size: 24px; font-weight: 600; color: var(--ink); }
.charts { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.maps p { font-size: 13px; margin: 4px 0; }
figcaption { font-size: 13px; } figcaption div { min-height: 20px; } .map svg { max-width: 640px; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin: 0 4px 0 0; }
.key:not(:first-child) { margin-left: 14px; }
.s0 { background: var(--s0); } .s1 { background: var(--s1); }
.legend { font-size: 13px; margin-top: 6px; } 
.legend span { white-space: nowrap; margin-right: 12px; }
.strips { display: flex; flex-wrap: wrap; gap: 14px 20px; }
.strip { display: flex; gap: 3px; }
.grid { display: flex; flex-wrap: wrap; gap: 6px; }
img { display: block; width: 72px; height: 72px; object-fit: contain; border-radius: 4px;
  padding-bottom: 0; }
.pixel { image-rendering: pixelated; }
.right, .wrong { border-radius: 4px 4px 0 0; border-bottom: 4px solid var(--good); height: 76px; }
.wrong { border-bottom: 4px dashed var(--bad); }
.near td { padding: 5px 24px 5px 0; } .near th { padding-right: 24px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 3px 16px 3px 0; vertical-align: top; }
th { font-weight: 500; color: var(--muted); } td { overflow-wrap: anywhere; }
.settings { width: 100%; } .settings th { width: 260px; overflow-wrap: anywhere; }
.settings tr + tr { border-top: 1px solid var(--line); }
.scroll { overflow-x: auto; } details { margin: 16px 4px; } summary { cursor: pointer; }
details td, details th { white-space: nowrap; font-size: 13px; }
</style></head><body><main><h1>{{title}}</h1>
{{verdict}}<!--evaluation--><!--/evaluation-->{{body}}</main></body></html>
""".replace("{{scheme}}", SCHEME)


def section(title: str, note: str, body: str) -> str:
    """A part of the page under a heading, with a word to the reader."""
    note = f"<p class='note'>{note}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{body}</section>"


def chart(title: str, note: str, epochs: list[float], series: Mapping[str, list]) -> str:
    """One measure over the epochs, as a figure; two lines at most."""
    svg = _lines(title, epochs, series.values(), SERIES, (3.5, 2.1))
    legend = ""
    if len(series) > 1:
        parts = (name.split("_")[0] for name in series)
        legend = "".join(f"<i class='key s{i}'></i>{part}" for i, part in enumerate(parts))
    caption = f"<b>{html.escape(title)}</b> <span>{html.escape(note)}</span><div>{legend}</div>"
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


def curves(title: str, epochs: list[float], series: Mapping[str, list]) -> str:
    """Any number of lines over the epochs, as a wide figure in the colours of classes."""
    svg = _lines(title, epochs, series.values(), CLASSES, (8.0, 3.4))
    return f"<figure>{svg}{legend_of(series)}</figure>"


def legend_of(names: Iterable[str]) -> str:
    """Names with the colours of classes, in their order."""
    keys = "".join(
        f"<span><i class='key' style='background:{CLASSES[place % len(CLASSES)]}'></i>"
        f"{html.escape(name)}</span> "
        for place, name in enumerate(names)
    )
    return f"<div class='legend'>{keys}</div>"


def histogram(title: str, values: np.ndarray) -> str:
    """How some numbers are distributed, as a figure."""
    figure = Figure(figsize=(5.0, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values, bins=min(30, max(5, len(values) // 10)), color=SERIES[0])
    axes.set_xlabel(title.lower(), color=TOKENS["muted"], fontsize=8)
    axes.set_ylabel("images", color=TOKENS["muted"], fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(length=0, colors=TOKENS["muted"], labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TOKENS["line"])
    return f"<figure class='map'>{_svg(figure, title)}</figure>"


def _lines(
    title: str,
    epochs: list[float],
    lines: Iterable[list],
    colours: Sequence[str],
    size: tuple[float, float],
) -> str:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    for place, values in enumerate(lines):
        marker = "o" if np.isfinite(values).sum() < 8 else None
        colour = colours[place % len(colours)]
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker=marker, markersize=4)
    whole = all(float(epoch).is_integer() for epoch in epochs)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=TOKENS["line"], linewidth=0.8)
    axes.tick_params(length=0, colors=TOKENS["muted"], labelsize=8)
    axes.set_xlabel("epoch", color=TOKENS["muted"], fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(TOKENS["line"])
    return _svg(figure, title)


def _svg(figure: Figure, name: str) -> str:
    """A figure as inline SVG, its colours made variables of the page."""
    buffer = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(style):
        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text)
    for variable, colour in TOKENS.items():
        text = text.replace(colour, f"var(--{variable})")
    label = f"<svg role='img' aria-label='{html.escape(name, quote=True)}' "
    return text.replace("<svg ", label, 1)


def displayable(image: np.ndarray) -> np.ndarray:
    """An image of any kind as uint8 (H, W, 3)."""
    image = image[len(image) // 2] if image.ndim == 4 else image  # a clip's middle frame
    if image.dtype != np.uint8:
        image = np.nan_to_num(image.astype(np.float32), posinf=1.0, neginf=0.0)
        low, high = float(image.min()), float(image.max())
        if low < -0.01 or high > 1.01:  # standardised, or in other units: show its range
            image = (image - low) / max(high - low, 1e-12)
        image = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    if image.shape[-1] < 3:
        image = image.mean(axis=-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1)
    return image[..., :3]


def picture(image: np.ndarray, kind: str = "", label: str = "") -> str:
    """An image of any kind as an `img` tag of the class `kind`."""
    shown = Image.fromarray(displayable(image))
    shown.thumbnail((2 * PIXELS, 2 * PIXELS))
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    kind += " pixel" if max(shown.size) < PIXELS else ""
    label = html.escape(label, quote=True)
    source = f"data:image/png;base64,{data}"
    return f"<img class='{kind.strip()}' title='{label}' alt='{label}' src='{source}'>"


def scatter(groups: Mapping[str, np.ndarray], small: bool = False) -> str:
    """A map of points (n, 2) by the name of their group, as a figure; a small one has no legend."""
    figure = Figure(figsize=(3.6, 3.0) if small else (6.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    colours = [SERIES[0]] if len(groups) == 1 else CLASSES
    for place, points in enumerate(groups.values()):
        colour = colours[place % len(colours)]
        axes.scatter(*points.T, s=9 if small else 14, color=colour, alpha=0.8, linewidths=0)
    axes.set_axis_off()
    svg = _svg(figure, "Map of the embeddings")
    return f"<figure class='map'>{svg}{'' if small else map_legend(groups)}</figure>"


def map_legend(groups: Mapping[str, np.ndarray]) -> str:
    """The legend of a map; empty where colours repeat, as it would mislead."""
    return legend_of(groups) if 1 < len(groups) <= len(CLASSES) else ""


def table(rows: Mapping[str, Any]) -> str:
    """Names and values, one pair a line."""
    cells = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(text(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table class='settings'>{cells}</table>"


def grid(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Cells by the name of their column, by the name of their row; cells are HTML."""
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{html.escape(row)}</th>"
        + "".join(f"<td>{cells.get(name, '')}</td>" for name in names)
        + "</tr>"
        for row, cells in rows.items()
    )
    return f"<div class='scroll'><table><tr><th></th>{head}</tr>{body}</table></div>"


def epoch_table(metrics: Sequence[Mapping[str, Any]]) -> str:
    """All metrics, folded away."""
    names = list(dict.fromkeys(name for row in metrics for name in row))
    if not names:
        return ""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text(row.get(n, '')))}</td>" for n in names) + "</tr>"
        for row in metrics
    )
    cells = f"<div class='scroll'><table><tr>{head}</tr>{body}</table></div>"
    return f"<details><summary>All figures, epoch by epoch</summary>{cells}</details>"


def text(value: Any) -> str:
    """A value for a reader: floats to four digits."""
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return str(value)
