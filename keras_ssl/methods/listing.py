"""What lists of methods tell of each: its paper, the backends it runs on, what it has learned."""

import functools
import json
import pathlib
import re
import sys

from keras_ssl.engine import SSLModel

RESULTS = pathlib.Path(__file__).with_name("results.json")  # written by `benchmarks.results`
BITS = ("bits per dimension", "bits per pixel in the palette")
DRAWN = "shapes"  # images that are no photographs
JAX_CHECK = "jax"  # of the contract suite, which runs on TensorFlow and compares with JAX
SMOKE = "smoke only"
_PAPER = re.compile(r"https://(?:arxiv\.org/abs|doi\.org|proceedings\.mlr\.press)/[\w./]*\w")


def paper(method: type[SSLModel]) -> str:
    """Address of the first paper that the file of the method names."""
    return _PAPER.search(sys.modules[method.__module__].__doc__).group()


def backends(method: type[SSLModel]) -> tuple[str, ...]:
    """Backends of Keras on which the contract suite runs the method."""
    return ("TensorFlow",) if JAX_CHECK in method.unsupported else ("TensorFlow", "JAX")


def results(method: type[SSLModel]) -> list[dict]:
    """The recorded runs of the method's recipe, those on real images first.

    Each has `data` ("10000 images of cifar10"), `network`, `epochs`, `seed`, `commit`, and as text
    the accuracies `kNN`, `linear probe`, and `..., random` of the same network before training;
    of models of likelihoods also one of `BITS`.
    """
    return sorted(_records().get(method.__name__, []), key=lambda run: run["data"] == DRAWN)


def state(method: type[SSLModel]) -> str:
    """What the method is known to do: "learned on real images", ... "drawn images", or `SMOKE`."""
    runs = results(method)
    if not runs:
        return SMOKE
    return f"learned on {'drawn' if runs[0]['data'] == DRAWN else 'real'} images"


def told(run: dict) -> str:
    """One of `results` in a line: its bits, where it has a likelihood, else its kNN accuracy."""
    images = re.sub(r"^\d+", lambda number: f"{int(number.group()):,}", run["data"])
    line = f"{images}, {run['network']}, {run['epochs']} epochs: "
    for name in BITS:
        if name in run:
            return f"{line}{run[name]} {name.removesuffix(' in the palette')}"
    trained, before = (f"{float(run[name]):.3f}" for name in ("kNN", "kNN, random"))
    return f"{line}kNN {trained} (random {before})"


@functools.cache
def _records() -> dict:
    return json.loads(RESULTS.read_text())
