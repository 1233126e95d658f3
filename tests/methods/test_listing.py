"""What is told of a method: papers, backends, and figures that are those of the records."""

import json
import pathlib
import runpy
from unittest import mock

import pytest

import keras_ssl
from benchmarks import results
from keras_ssl.methods import METHODS, listing

ROOT = pathlib.Path(__file__).parents[2]


def record(title, trained="0.5", **more):
    figures = {
        "kNN, trained encoder": trained,
        "kNN, random encoder": "0.3",
        "linear probe, trained encoder": "0.6",
        "linear probe, random encoder": "0.4",
    }
    facts = {"kind": "recipe", "command": "run", "commit": "one", "date": "2026-01-01"}
    facts |= {"hardware": "two cores", "seed": 3, "epochs": 20}
    return facts | {"title": title, "figures": figures} | more


def test_what_the_package_tells_is_what_was_recorded():
    """If not: `python -m benchmarks.results` writes both anew."""
    found = results.records()
    assert listing.RESULTS == results.LISTED
    assert json.loads(listing.RESULTS.read_text()) == results.listed(found)
    assert results.PAGE.read_text() == results.render(found)
    known = {method.__name__ for method in METHODS}
    assert set(results.listed(found)) <= known


def test_a_record_reaches_page_and_package(tmp_path, monkeypatch):
    for name in ("RECORDS", "PAGE", "LISTED"):
        monkeypatch.setattr(results, name, tmp_path / name)
    study = record("SimCLR's variants: letters", kind="study", table=[["a"], ["b"]])
    for new in (
        record("SimCLR, shapes, small_conv at 32 px"),
        record("SimCLR, 1000 images of letters, small_conv at 32 px", "0.4"),
        record("SimCLR, 1000 images of letters, small_conv at 32 px", "0.45"),
        record("BYOL, shapes, small_conv at 32 px"),
        study,
    ):
        results.add(new)
    assert "| SimCLR | 0.45 | 0.3 |" in results.PAGE.read_text()
    monkeypatch.setattr(listing, "_records", lambda: json.loads(results.LISTED.read_text()))
    found = listing.results(keras_ssl.SimCLR)
    assert [run["data"] for run in found] == ["1000 images of letters", "shapes"]
    assert listing.told(found[0]) == (
        "1,000 images of letters, small_conv at 32 px, 20 epochs: kNN 0.450 (random 0.300)"
    )
    bits = found[0] | {"bits per dimension": "≤ 3.500 ± 0.010"}
    assert listing.told(bits).endswith(", 20 epochs: ≤ 3.500 ± 0.010 bits per dimension")
    states = [listing.state(getattr(keras_ssl, name)) for name in ("SimCLR", "BYOL", "SwAV")]
    assert states == ["learned on real images", "learned on drawn images", "smoke only"]


def test_backends_are_those_of_the_contract_suite():
    assert listing.backends(keras_ssl.SimCLR) == ("TensorFlow", "JAX")
    with mock.patch.object(keras_ssl.SimCLR, "unsupported", {"jax": "needs eigenvalues"}):
        assert listing.backends(keras_ssl.SimCLR) == ("TensorFlow",)


def test_the_file_is_installed_with_the_package():
    pytest.importorskip("setuptools")
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    declared = setup.call_args.kwargs["package_data"]
    files = {
        ROOT / package.replace(".", "/") / name
        for package, names in declared.items()
        for name in names
    }
    others = {
        path
        for path in (ROOT / "keras_ssl").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == files
