"""Every recipe runs, and its settings are read strictly."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(p.stem for p in (ROOT / "recipes").glob("[a-z]*.py"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_smoke(recipe, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", f"recipes.{recipe}", "--smoke", f"--out={tmp_path / 'run'}"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert rows[-1]["epoch"] == "2" and float(rows[-1]["loss"]) > 0
    assert "linear probe" in result.stdout


def test_settings_are_read_strictly():
    from recipes import _runner, simclr

    config = _runner.configure(simclr.PRESETS, "cifar10", ["temperature=1", "epochs=3"])
    assert (config.temperature, config.epochs, config.batch_size) == (1.0, 3, 512)
    for preset, change, message in [
        ("cifar01", "epochs=3", "Did you mean 'cifar10'"),
        ("cifar10", "epoch=3", "Did you mean 'epochs'"),
        ("cifar10", "epochs=many", "must be int"),
        ("cifar10", "epochs", "name=value"),
    ]:
        with pytest.raises(ValueError, match=message):
            _runner.configure(simclr.PRESETS, preset, [change])
