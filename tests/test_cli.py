"""The command: its flags are the arguments of `pretrain`, its errors name the near ones."""

import inspect
import subprocess
import sys

import pytest

from keras_ssl import cli, runs


def shell(*words):
    return subprocess.run(
        [sys.executable, "-m", "keras_ssl.cli", *words], capture_output=True, text=True
    )


def test_errors_name_the_near_ones(tmp_path):
    result = shell("pretrain", f"--out={tmp_path}/run", "--method=simlcr", "--data=shapes")
    assert result.returncode == 1 and "Did you mean 'simclr'" in result.stderr
    result = shell("pretrian", "--out=x")
    assert result.returncode and "Did you mean 'pretrain'" in result.stdout + result.stderr
    result = shell("pretrain", "--epoch=3")
    assert result.returncode and "epochs" in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_help_tells_every_option_as_pretrain_does():
    text = " ".join(shell("--help").stdout.split())
    for name in cli._options():
        assert f"--{name}" in text or f"--[no]{name}" in text
    assert "passes over the images" in text and "(default: '100')" in text
    assert "keras-ssl pretrain --method=simclr" in text


def test_every_argument_of_pretrain_is_described_and_a_flag_or_python_only():
    described = cli._help()
    arguments = inspect.signature(runs.pretrain).parameters
    assert list(described) == list(arguments)
    assert set(cli._options()) == set(arguments) - set(cli._PYTHON_ONLY)
    assert all(len(text.split()) >= 3 for text in described.values())


def test_method_options_are_read_as_literals():
    assert cli._method_options(["temperature=0.2", "name=x"]) == {"temperature": 0.2, "name": "x"}
    with pytest.raises(ValueError, match="name=value"):
        cli._method_options(["temperature"])
