"""Every recipe runs, and its settings are read strictly."""

import csv
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys

import keras
import pytest

from benchmarks import results
from keras_ssl import data
from keras_ssl.runs import precisions
from recipes import _runner, simclr

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(p.stem for p in (ROOT / "recipes").glob("[a-z]*.py"))


def rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


@pytest.mark.parametrize("recipe", RECIPES)
def test_first_steps(recipe):
    """What differs between recipes: method, networks, views, optimizer. Eager: half the time."""
    own = importlib.import_module(f"recipes.{recipe}").RECIPE
    config = _runner.configure(own, "cifar10_small", smoke=True)
    source, _ = data.splits(config.data, image_size=config.image_size)
    source = source.subset(range(config.images))
    model, views = own.make_model(config, source.size), own.make_views(config)
    assert model.compiled  # with the recipe's optimizer, which `fit` keeps
    model.run_eagerly = True
    model.fit(source, batch_size=config.batch_size, epochs=1, views=views, verbose=0)
    assert int(model.step) == source.size // config.batch_size


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_smoke(recipe, tmp_path, capsys):
    module = importlib.import_module(f"recipes.{recipe}")
    assert {"cifar10_small", "cifar10"} <= set(module.RECIPE.presets)
    config = _runner.configure(module.RECIPE, "cifar10_small", smoke=True)
    _runner.run(module.RECIPE, config, tmp_path / "run")
    assert rows(tmp_path / "run")[-1]["epoch"] == "2"
    assert math.isfinite(float(rows(tmp_path / "run")[-1]["loss"]))
    assert "linear probe" in capsys.readouterr().out


def test_command(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "recipes.simclr", "--smoke", f"--out={tmp_path / 'run'}"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert rows(tmp_path / "run")[-1]["epoch"] == "2" and "linear probe" in result.stdout


@pytest.mark.slow
def test_the_demo_finds_the_shapes(tmp_path):
    """The preset of `make demo`: the trained encoder knows the shapes, the random one does not."""
    _runner.run(simclr.RECIPE, _runner.configure(simclr.RECIPE, "shapes"), tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "result.json").read_text())["figures"]
    assert float(figures["kNN, random encoder"]) < 0.5
    assert float(figures["kNN, trained encoder"]) >= 0.85
    assert figures["collapse monitor"] == "healthy"


def test_a_study_keeps_its_number_format():
    keras.config.set_dtype_policy("mixed_bfloat16")
    precisions.clear_session()
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_settings_are_read_strictly():
    config = _runner.configure(simclr.RECIPE, "cifar10", ["temperature=1", "epochs=3"])
    assert (config.options["temperature"], config.epochs, config.batch_size) == (1, 3, 512)
    config = _runner.configure(simclr.RECIPE, "cifar10", ["learning_rate=1"])
    assert isinstance(config.learning_rate, float) and config.warmup_epochs == 10
    for preset, change, message in [
        ("cifar01", "epochs=3", "Did you mean 'cifar10'"),
        ("cifar10", "epoch=3", "Did you mean 'epochs'"),
        ("cifar10", "temprature=1", "argument of SimCLR.*Did you mean 'temperature'"),
        ("cifar10", "epochs=many", "must be int"),
        ("cifar10", "epochs", "name=value"),
    ]:
        with pytest.raises(ValueError, match=message):
            _runner.configure(simclr.RECIPE, preset, [change])


def test_a_study_is_a_table(tmp_path, capsys):
    """Its record tells the commits of its runs, and `benchmarks.results` makes a table of it."""
    config = _runner.configure(simclr.RECIPE, "cifar10_small")
    parts = [tmp_path / name for name in "abc"]
    for part, commit in zip(parts, ("one", "two", "one")):
        part.mkdir()
        (part / "result.json").write_text(json.dumps({"commit": commit}))
    _runner.write_study(tmp_path, "Letters", config, [["letter", "kNN"], ["a", 0.25]], parts)
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["commit"] == "one, two" and record["epochs"] == 20 and record["kind"] == "study"
    assert (tmp_path / "table.csv").read_text().split() == ["letter,kNN", "a,0.25"]
    assert capsys.readouterr().out == "letter   kNN\n     a  0.25\n"
    page = results.render([record])
    assert "### Letters: 10000 images of cifar10, small_conv at 32 px\n" in page
    assert "| letter | kNN |\n|---|---|\n| a | 0.25 |\n" in page


def test_methods_of_one_protocol_are_one_table():
    """A row a method, best kNN first; columns that no row fills are left out."""
    facts = {"kind": "recipe", "command": "run", "commit": "one", "date": "2026-01-01"}
    facts |= {"hardware": "two cores", "seed": 3, "epochs": 20}
    figures = {"kNN, trained encoder": "0.4", "kNN, random encoder": "0.3"}
    better = figures | {"kNN, trained encoder": "0.5", "bits per dimension, 9 test images": "6.4"}
    page = results.render(
        [
            facts | {"title": "A, letters, small_conv", "figures": figures},
            facts | {"title": "B, letters, small_conv", "figures": better, "command": "other"},
            facts | {"title": "A, digits, small_conv", "figures": figures},
        ]
    )
    both, digits = page.split("### Letters, small_conv, 20 epochs")[1].split("### Digits, ")
    assert "| method | kNN | kNN, random | bits per dimension | seed | commit |\n" in both
    assert "| B | 0.5 | 0.3 | 6.4 | 3 | one |\n| A | 0.4 | 0.3 | | 3 | one |\n" in both
    assert "2026-01-01; two cores:\n\n- B: `other`\n- A: `run`\n" in both
    assert "| method | kNN | kNN, random | seed | commit |\n" in digits
