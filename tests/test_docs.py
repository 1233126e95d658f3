"""The site: it is built without a warning, links hold, and every method has its page."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from keras_ssl import cli, methods

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages, built as `make docs` does, where a broken link is an error."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    words = ["build", "--quiet", "--config-file", "docs/mkdocs.yml", "--site-dir", str(out)]
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def test_every_method_has_a_page(site):
    overview = (site / "methods" / "index.html").read_text()
    for method in methods.METHODS:
        name = method.__module__.split(".")[-1]
        page = (site / "methods" / name / "index.html").read_text()
        assert f'href="{name}/"' in overview
        assert method.family in page and re.search("arxiv.org|doi.org|mlr.press", page)
        assert (f"recipes/{name}.py" in page) == (ROOT / "recipes" / f"{name}.py").exists()
        assert f'id="{method.__module__}.{method.__name__}"' in page  # its docstring


def test_every_command_is_described(site):
    page = (site / "commands" / "index.html").read_text()
    assert all(f'id="{name}"' in page for name in cli.COMMANDS)


def test_nothing_is_fetched_from_elsewhere(site):
    load = re.compile(r"<(?:script|img)[^>]+src=.https?:|<link[^>]+stylesheet[^>]+https?:")
    for path in site.rglob("*.html"):
        assert not load.search(path.read_text()), path
