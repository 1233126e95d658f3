"""The section of the report that shows an evaluation card."""

import html
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from keras_ssl.report.charts import grid, section, table
from keras_ssl.report.page import rewrite

_PLACE = re.compile("<!--evaluation-->.*?<!--/evaluation-->", re.DOTALL)


def add_evaluation(
    path: pathlib.Path, card: Mapping[str, Any], rows: Mapping[str, Mapping[str, str]]
) -> None:
    """Put an evaluation into a report, in the place of an earlier one.

    Args:
        path: a page of `write_report`.
        card: an evaluation card as a dict.
        rows: its scores in percent: columns by name, by the name of the row.
    """
    page = path.read_text(encoding="utf-8")
    shown = f"<!--evaluation-->{_section(card, rows)}<!--/evaluation-->"
    rewrite(path, _PLACE.sub(lambda _: shown, page, count=1))


def _section(card: Mapping[str, Any], rows: Mapping[str, Mapping[str, str]]) -> str:
    note = (
        f"Accuracy in % on {card['data']['test']['size']} test images, learnt from "
        f"{card['data']['train']['size']}; <i>random</i> is the same network with new initial "
        f"weights. Evaluations with the same protocol number, {html.escape(card['hash'])}, can be "
        "compared."
    )
    settings = {name: _text(value) for name, value in card["protocol"].items()}
    details = f"<details><summary>Protocol</summary>{table(settings)}</details>"
    cells = {row: {k: html.escape(v) for k, v in found.items()} for row, found in rows.items()}
    return section("Evaluation", note, grid(cells) + details)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return str(value)
