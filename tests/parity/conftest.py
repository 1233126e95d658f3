"""PyTorch and lightly, or a plain reason to skip what needs them."""

import warnings

import pytest


@pytest.fixture(scope="session")
def twin():
    """The module `torch_twin`; imported here, as PyTorch takes seconds that other tests save."""
    needed = "the parts of PyTorch to compare with; install the extra `peers`"
    pytest.importorskip("torch", reason=f"PyTorch is absent: {needed}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _import_torchvision(needed)
        pytest.importorskip("lightly", reason=f"lightly is absent: {needed}")
        import torch_twin
    return torch_twin


def _import_torchvision(needed):
    """Also where its compiled operators do not fit PyTorch: none of them is used."""
    try:
        pytest.importorskip("torchvision", reason=f"torchvision is absent: {needed}")
    except RuntimeError:
        from benchmarks import lightly_simclr

        _KEPT.append(lightly_simclr._declare_missing_operators())
        import torchvision  # noqa: F401


_KEPT = []  # declarations end with the object that made them
