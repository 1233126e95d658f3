"""Wrong inputs, faults and clumsy uses: each ends well, or with an error that says what to do."""

import importlib
import pathlib

import pytest

_AREAS = sorted(p.stem for p in pathlib.Path(__file__).parent.glob("*_rows.py"))
ROWS = [row for area in _AREAS for row in importlib.import_module(area).ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_it_ends_well_or_says_what_to_do(row, tmp_path):
    if not row.says:
        row.do(tmp_path)
        return
    with pytest.raises(row.error) as raised:
        row.do(tmp_path)
    message = str(raised.value)
    missing = [part for part in row.says if part not in message]
    assert not missing, f"{missing} not in: {message}"
