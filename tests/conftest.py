"""Shared fixtures: where real images and reference values lie, and one seed for every test."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import pytest
import tensorflow as tf
from graphs import forget_graphs

# Graphs of tests run for a few steps: optimising them costs more than it saves. The processes that
# tests start optimise theirs as users' do, but for the replicas of the contract suite.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> pathlib.Path:
    path = pathlib.Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set {variable} to the folder that holds it")
    return path


def pytest_collection_modifyitems(items):
    """Files of few, long tests first, so that two workers end together (the Makefile keeps it)."""
    long = ("distributed", "contract", "runs", "recipes")
    items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] not in long)


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder with real images (`tfds/`, `tiny_imagenet/`)."""
    return _folder("KERAS_SSL_TEST_DATA", "data")


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """The folder with reference values, one `.npz` per function."""
    return _folder("KERAS_SSL_TEST_GOLDENS", "goldens")


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state and default precision."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Graphs of a file's models do not outlive it."""
    yield
    forget_graphs()
