"""The notebooks run from top to bottom."""

import contextlib
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Fewer images and seeds than on the page.
SMALLER = {
    "shapes(2000": "shapes(500",
    "first=2000": "first=500",
    "shapes(1000": "shapes(200",
    "seeds=2": "seeds=1",
}


def cells(path):
    """The code of a notebook, cell by cell; none holds results, which would grow old."""
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            yield "".join(cell["source"])


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["compare", "few_labels", "five_lines"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, capsys):
    names = {}
    with contextlib.chdir(tmp_path):
        for place, code in enumerate(cells(path)):
            for printed, small in SMALLER.items():
                code = code.replace(printed, small)
            exec(compile(code, f"{path.name}, cell {place}", "exec"), names)
    assert capsys.readouterr().out
