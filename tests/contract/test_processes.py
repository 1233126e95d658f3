"""The checks of the contract that other processes make: replicas, JAX, encoders without us."""

import pytest
from processes import compare


def check_parity(parity, method, backend, devices, tolerance):
    folder, jobs = parity
    if backend not in jobs:
        pytest.skip(f"the package {backend} is absent")
    jobs[backend].result()
    compare(folder, f"{backend}{devices}.npz", devices, tolerance, [method])


def test_two_replicas(parity, method):
    check_parity(parity, method, "tensorflow", 2, 1e-5)


def test_jax(parity, method):
    check_parity(parity, method, "jax", 1, 1e-4)


def test_jax_on_two_devices(parity, method):
    check_parity(parity, method, "jax", 2, 1e-4)


def test_encoder_is_trained_elsewhere(elsewhere, method):
    assert elsewhere[method] == "fine", elsewhere[method]
