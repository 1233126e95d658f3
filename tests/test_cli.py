"""The command: its flags are the arguments of `pretrain`, its errors name the near ones."""

import inspect
import re
import subprocess
import sys
from unittest import mock

import pytest

from keras_ssl import cli, methods, runs
from keras_ssl.methods.listing import results


def test_a_process_of_its_own_returns_the_exit_code(tmp_path):
    words = ["pretrain", f"--out={tmp_path}/run", "--method=simlcr", "--data=shapes"]
    command = [sys.executable, "-m", "keras_ssl.cli", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and not result.stdout
    assert "Did you mean 'simclr'" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_help_tells_every_option_as_pretrain_does(capsys):
    assert cli.main(["pretrain", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    command = cli.COMMANDS["pretrain"]
    kinds = command.kinds()
    for name, words in cli._described(runs.pretrain).items():
        if name not in command.python_only:
            flag = {bool: f"--[no]{name}", dict: "--set"}.get(kinds[name], f"--{name}=")
            assert f" {flag}" in text and words.replace("`", "") in text


def test_every_argument_of_pretrain_is_described_and_a_flag_or_python_only():
    command, arguments = cli.COMMANDS["pretrain"], inspect.signature(runs.pretrain).parameters
    described = cli._described(runs.pretrain)
    assert list(described) == list(arguments)
    assert set(command.arguments) == set(arguments) - set(command.python_only)
    assert all(len(text.split()) >= 3 for text in described.values())
    grouped = [name for group in command.groups.values() for name in group]
    assert len(grouped) == len(set(grouped)) and set(grouped) <= set(arguments)


def test_flags_are_made_from_any_signature(capsys):
    """A bool, whole and other numbers, with defaults or None, and an argument that has none."""
    seen = {}

    def measure(
        run: str,
        share: float = 0.1,
        scale: float | None = None,
        limit: int | None = None,
        download: bool = False,
    ):
        """Measure a run.

        Args:
            run: the run's folder.
            share: share of the images,
                more or less.
            scale: of the axis.
            limit: most images.
            download: whether to fetch.
        """
        seen.update(locals())

    with mock.patch.dict(cli.COMMANDS, measure=cli.Command(measure)):
        assert cli.main(["measure", "--run=1", "--share=2.5e-1", "--scale", "3", "--download"]) == 0
        assert seen | {"seen": 0} == {
            "run": "1",
            "share": 0.25,
            "scale": 3.0,
            "limit": None,
            "download": True,
            "seen": 0,
        }
        assert isinstance(seen["scale"], float)
        assert cli.main(["measure", "--run=1"]) == 0 and seen["share"] == 0.1
        assert cli.main(["measure", "--run=1", "--share=half"]) == 2
        assert "--share must be a number. Received: --share=half." in capsys.readouterr().err
        assert cli.main(["measure"]) == 2
        assert "`measure` needs --run: the run's folder." in capsys.readouterr().err
        assert cli.main(["measure", "--help"]) == 0
        page = capsys.readouterr().out
        assert "--share=NUMBER (default: 0.1)\n        share of the images, more or less.\n" in page
        assert "--run=TEXT (must be given)" in page and "--[no]download (default: false)" in page


def test_method_options_are_read_as_literals():
    pairs = ["temperature=0.2", "name=x", "sizes=[1, 2]", "on=true", "text='true'", "of=a=b"]
    assert cli._pairs(pairs) == {
        "temperature": 0.2,
        "name": "x",
        "sizes": [1, 2],
        "on": True,
        "text": "true",
        "of": "a=b",
    }
    with pytest.raises(cli._UsageError, match="name=value"):
        cli._pairs(["temperature"])


def test_methods_are_listed_with_backends_and_what_they_have_learned(capsys):
    assert cli.main(["methods"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["method", "family", "backends", "paper"]
    assert len(lines) == 3 * len(methods.METHODS)
    told = [line for place, line in enumerate(lines) if place % 3]  # addresses may be longer
    assert max(map(len, told)) <= cli._WIDTH
    for place, method in enumerate(methods.METHODS):
        facts, objective, state = lines[3 * place : 3 * place + 3]
        assert method.family != "own" and re.fullmatch(
            rf"{method.__name__} +{method.family} +TensorFlow(, JAX)? +"
            r"(arxiv.org/abs/\d+\.\d+|doi.org/10\.\d+/[\w.]+|proceedings.mlr.press/v\d+/\w+.html)",
            facts,
        )
        assert objective == f"    {method.__doc__.splitlines()[0]}"
        figure = r"(kNN 0\.\d{3} \(random 0\.\d{3}\)|(≤ )?\d\.\d{3} ± 0\.\d{3} bits per \w+)"
        assert re.fullmatch(rf"    (smoke only|.+ epochs: {figure})", state)


def test_a_method_is_told_with_all_its_runs_and_options(capsys):
    for method in methods.METHODS:
        assert cli.main(["methods", f"--method={method.__name__}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        runs_of = results(method)
        assert lines[1].startswith(method.__name__) and "Options:" in lines
        assert lines[3:].index("") == max(1, len(runs_of))
    assert cli.main(["methods", "--method=barlow_twins"]) == 0
    page = capsys.readouterr().out
    assert "  off_diagonal_weight (default: 0.0051)\n        lambda of the paper" in page
    assert "as keras.Model" not in page and "  backbone" not in page
