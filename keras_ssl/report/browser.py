"""A page to browse images by their features: a map, and the nearest neighbours of each image.

The page is a single file: its script and pictures are in it, and it asks no network.
"""

import base64
import html
import io
import json
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_ssl.report.browser_page import PAGE
from keras_ssl.report.charts import CLASSES, SCHEME, displayable
from keras_ssl.report.pictures import class_name, nearest
from keras_ssl.report.projection import project

NEIGHBOURS = 12
SIDE = 64  # pixels of a picture, at most
_QUALITY = 85
_GRID = 4096  # places of the map along its longer side
_ROWS = 256  # images whose similarity to all others is in memory at once


def thumbnail(image: np.ndarray) -> str:
    """A small picture of an image of any kind, for `page`: what follows "data:image/"."""
    shown = Image.fromarray(displayable(image))
    shown.thumbnail((SIDE, SIDE))
    written = {}
    for kind, options in {"jpeg": {"quality": _QUALITY}, "png": {"optimize": True}}.items():
        buffer = io.BytesIO()
        shown.save(buffer, kind, **options)
        written[kind] = buffer.getvalue()
    kind = min(written, key=lambda name: len(written[name]))  # drawings are smaller as PNG
    return f"{kind};base64,{base64.b64encode(written[kind]).decode()}"


def page(
    features: np.ndarray,
    pictures: Sequence[str],
    *,
    title: str,
    note: str = "",
    pixel: bool = False,
    index: Sequence[int] | None = None,
    files: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
) -> str:
    """The page on some images, as HTML.

    Args:
        features: (N, D) of the images, N >= 1, finite.
        pictures: of each image, what `thumbnail` gives.
        title: heading of the page.
        note: what the reader should know, before the name of the projection.
        pixel: whether pictures are of so few pixels that they should not be smoothed.
        index: number of each image; by default its row.
        files: name of each image; by default its number.
        labels: (N,) integer classes, for colours; negative where there is none.
        class_names: name of each class.

    Returns:
        The page. `#12` behind its address shows the image of row 12.

    Raises:
        ValueError: features are not finite, or the arguments differ in number.
    """
    features = np.asarray(features, np.float32)
    index = list(range(len(features))) if index is None else [int(i) for i in index]
    names = [f"image {i}" for i in index] if files is None else list(map(str, files))
    _check(features, pictures=pictures, index=index, files=names, labels=labels)
    places, method = project(features)
    near, cosine = _neighbours(features)
    numbers, classes = _classes(labels, class_names)
    x, y = _grid(places).T.tolist()
    data = {
        "x": x,
        "y": y,
        "index": index,
        "name": names,
        "files": files is not None,
        "label": numbers,
        "classes": classes,
        "colours": CLASSES,
        "near": near.tolist(),
        "cosine": cosine,
        "picture": list(pictures),
        "pixel": bool(pixel),
    }
    note = f"{note} {method} of their features; neighbours are among the images of this page."
    parts = {
        "title": html.escape(title),
        "note": html.escape(note.strip()),
        "scheme": SCHEME,
        "data": _json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], PAGE)


def _check(features: np.ndarray, **others: Sequence | None) -> None:
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(
            "`features` must be finite numbers of shape (images, dimensions), of one image or "
            f"more. Received: shape {features.shape}, {int((~np.isfinite(features)).sum())} of "
            "them NaN or infinity."
        )
    for name, values in others.items():
        if values is not None and len(values) != len(features):
            raise ValueError(
                f"`{name}` must have an entry for each of the {len(features)} rows of `features`. "
                f"Received: {len(values)}."
            )


def _neighbours(features: np.ndarray) -> tuple[np.ndarray, list]:
    """Rows of the nearest images of every image, best first, and their cosines."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near, cosine = [], []
    for start in range(0, len(features), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(features)))
        near.append(nearest(features, rows, NEIGHBOURS))
        similarity = np.einsum("nd,nkd->nk", unit[rows], unit[near[-1]])
        cosine += [[round(float(value), 3) for value in row] for row in similarity]
    return np.concatenate(near), cosine


def _classes(
    labels: Sequence[int] | None, class_names: Sequence[str] | None
) -> tuple[list[int], list[str]]:
    """Number and names of the classes that occur; images without a label come last."""
    if labels is None:
        return [], []
    labels = np.where(np.asarray(labels) < 0, np.iinfo(np.int64).max, labels)
    present, numbers = np.unique(labels, return_inverse=True)
    known = [-1 if label == np.iinfo(np.int64).max else label for label in present]
    return numbers.tolist(), [class_name(label, class_names) or "no label" for label in known]


def _grid(places: np.ndarray) -> np.ndarray:
    """Places (N, 2) as whole numbers from 0 on, y downwards, in the same proportions."""
    places = np.stack([places[:, 0], -places[:, 1]], axis=1)
    places = places - places.min(axis=0)
    return np.rint(places * (_GRID / max(float(places.max()), 1e-12))).astype(int)


def _json(data: dict) -> str:
    """JSON that nothing in it can end, whatever the names of files and classes."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
