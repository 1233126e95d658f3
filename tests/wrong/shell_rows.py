"""Commands in a shell."""

import contextlib
import errno
import io
import os
import pathlib
import re
import sys
import types
from unittest import mock

import keras
import numpy as np
import pytest
from table import Row
from toys import images, tiny_backbone

from keras_ssl import backbones, cli, data, methods, runs
from keras_ssl.export import export_encoder
from keras_ssl.methods import create


def shell(*words):
    """Exit code, stdout and stderr of the command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(words)
    return code, out.getvalue(), err.getvalue()


def fails(code, words, *says, run=None):
    """A row: these words end with `code` and one line that says so, before images are read.

    `run` is in the place of `pretrain`.
    """

    def do(folder):
        given = [word.replace("OUT", str(folder / "run")) for word in words]
        with (
            mock.patch.object(runs, "pretrain", run or runs.pretrain),
            mock.patch.object(data, "splits", side_effect=AssertionError("images were read")),
        ):
            found, out, err = shell(*given)
        assert found == code, err
        assert re.fullmatch(r"keras-ssl: [^\n]+\n", err) and not out, err
        missing = [part for part in says if part not in err]
        assert not missing, f"{missing} not in: {err}"
        assert not list(folder.iterdir())

    return do


def wrong(*words, code=2, says=()):
    return fails(code, ("pretrain", "--data=shapes", "--out=OUT", *words), *says)


def option(words, *says):
    return wrong(*words, code=1, says=says)


def raises(error, code, *says):
    return fails(
        code, ("pretrain", "--data=shapes", "--out=OUT"), *says, run=mock.Mock(side_effect=error)
    )


def passed(*words):
    """What `pretrain` is called with by a command."""
    with mock.patch.object(runs, "pretrain") as pretrain:
        code, _, err = shell("pretrain", "--data=shapes", "--out=runs/1", *words)
    assert (code, err) == (0, "")
    return pretrain.call_args.kwargs


def forms(folder):
    for words in (["--epochs=3", "--method=moco"], ["--epochs", "3", "--method", "moco"]):
        found = passed(*words)
        assert (found["epochs"], found["method"], found["data"]) == (3, "moco", "shapes")
    for word, value in {
        "--monitor": True,
        "--monitor=true": True,
        "--nomonitor": False,
        "--monitor=false": False,
    }.items():
        assert passed(word)["monitor"] is value
    assert passed("--seed=-1", "--batch_size", "8") == passed("--seed", "-1", "--batch_size=8")
    assert passed("--batch_size=auto")["batch_size"] == "auto"
    assert passed("--set", "queue_size=64", "--method=moco", "--set=version=1")[
        "method_options"
    ] == {"queue_size": 64, "version": 1}
    simsiam = passed("--method=SimSiam", "--set=symmetric=false", "--set=stop_gradient=True")
    assert simsiam["method_options"] == {"symmetric": False, "stop_gradient": True}
    assert passed("--set=temperature=None")["method_options"] == {"temperature": None}


def helps(folder):
    code, text, err = shell("--help")
    assert (code, err) == (0, "") and "keras-ssl pretrain --method=simclr --data=" in text
    for name, command in cli.COMMANDS.items():
        assert f"{name:10}{command.summary}" in text
        code, page, err = shell(name, "--help")
        assert (code, err) == (0, "") and page.startswith(f"keras-ssl {name} ")
        assert f"\n  keras-ssl {name}" in page
        assert "tfds" not in page.replace("path/to/tfds", "")  # flags of other libraries
    code, page, _ = shell("pretrain", "--epochs=3", "-h")
    assert code == 0 and "  --epochs=NUMBER (default: 100)\n" in page
    assert "  --[no]monitor (default: true)\n" in page and "(must be given)" in page
    assert max(map(len, page.splitlines())) < 140


def bugs_show_their_trace(folder):
    for error in (KeyError("x"), AttributeError("x"), TypeError("x")):
        with mock.patch.object(runs, "pretrain", side_effect=error):
            with pytest.raises(type(error)):
                shell("pretrain", "--data=shapes", "--out=x")


def unusable(out, *says, do=lambda folder: None):
    """A row: the main job itself on a small file of images, with an `out` it cannot make."""

    def row(folder):
        np.savez(folder / "images.npz", images=images(16))
        place = folder / out
        do(folder)
        words = (f"--data={folder}/images.npz", f"--out={place}", "--backbone=small_conv")
        code, _, err = shell("pretrain", *words, "--precision=float32")
        assert code == 1 and err.count("\n") == 1 and err.startswith("keras-ssl: "), err
        assert not [part for part in says if part not in err], err
        assert sorted(p.name for p in folder.iterdir()) == ["images.npz"]

    return row


def read_only(folder):
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / "run"))
    with mock.patch.object(pathlib.Path, "mkdir", side_effect=refused):
        unusable("run/1", "Permission denied", f"Received: {folder}/run/1")(folder)


def onnx_without_its_packages(folder):
    with mock.patch.dict(sys.modules, {"onnx": None, "tf2onnx": None}):
        with pytest.raises(ImportError) as raised:
            export_encoder(tiny_backbone(), folder / "encoder.onnx", format="onnx")
    parts = ("`format` 'onnx'", "onnx", "pip install 'keras-ssl[onnx]'")
    assert all(part in str(raised.value) for part in parts), raised.value
    assert not list(folder.iterdir())


def network_out_of_reach(folder):
    failure = Exception("URL fetch failure on https://example.com")  # what Keras raises
    with mock.patch.object(keras.applications, "MobileNetV2", side_effect=failure):
        backbones.get("keras_applications:MobileNetV2(weights='imagenet')", (32, 32, 3))


def every_option_has_a_type(folder):
    """Text for numbers, fractions for whole ones, flags and networks: of all methods, one rule."""
    for method in methods.METHODS:
        for name, parameter in create.options_of(method).items():
            hint = parameter.annotation
            kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
            assert all(kind in create._TYPES for kind in kinds), (method, name)
            assert (parameter.default is None) == (types.NoneType in kinds)
            wrong = 1.5 if str in kinds or int in kinds else "abc"
            for value in (wrong, {"a": 1}, None if types.NoneType not in kinds else wrong):
                with pytest.raises(ValueError, match=f"`{name}` of {method.__name__} must be"):
                    create.check_options(method, {name: value})
            if parameter.default is not parameter.empty:
                create.check_options(method, {name: parameter.default})
    layer = keras.layers.Dense(3)
    create.check_options(methods.CMC, {"projectors": (layer, layer)})
    create.check_options(methods.SimCLR, {"projector": layer})
    with pytest.raises(ValueError, match="list of Keras models"):
        create.check_options(methods.CMC, {"projectors": [layer, 2]})
    create.check_options(methods.SimCLR, {"temperature": np.float32(1), "version": np.int64(2)})
    for value in (True, "0.5"):
        with pytest.raises(ValueError, match="must be a number"):
            create.check_options(methods.SimCLR, {"temperature": value})


def values_out_of_range(folder):
    """Where a layer refuses a number under its own name for it, the option is named too."""
    for method, option, value in (
        ("moco", "queue_size", 0),
        ("cmc", "bank_momentum", 1.0),
        ("infomin", "groups", 0),
    ):
        rest = {"num_images": 9} if method == "cmc" else {}
        with pytest.raises(ValueError, match=f"Received: .*{option}={value}"):
            create.create(
                method, (32, 32, 3), tiny_backbone((32, 32, 3)), **{option: value}, **rest
            )


USAGE = {
    "no command": ((), ("must be a command", "Received: none", "methods, pretrain")),
    "a command that is none": (("pretrian", "--out=x"), ("pretrian", "Did you mean 'pretrain'")),
    "flags before the command": (("--out=x", "pretrain"), ("first word", "--out=x")),
    "an unknown flag": (
        ("pretrain", "--epoch=3"),
        ("no flag --epoch", "Did you mean 'epochs'", "keras-ssl pretrain --help"),
    ),
    "flags of TFDS": (("pretrain", "--tfds_debug"), ("no flag --tfds_debug",)),
    "no data": (("pretrain", "--out=OUT"), ("needs --data", "a folder", "--data=shapes")),
    "an empty variable as data": (("pretrain", "--out=OUT", "--data="), ("needs --data",)),
    "no run folder": (("pretrain", "--data=shapes"), ("needs --out", "--out=runs/1")),
    "a flag without its value": (("pretrain", "--data=shapes", "--out"), ("--out",)),
    "words that are no flags": (
        ("pretrain", "path/to/images", "--out=OUT"),
        ("alone", "path/to/images"),
    ),
    "a method as a word": (("methods", "simclr"), ("alone", "simclr")),
}

ROWS = [
    *(Row(what, fails(2, words, *says)) for what, (words, says) in USAGE.items()),
    Row("text for whole numbers", wrong("--epochs=abc", says=("whole number", "--epochs=abc"))),
    Row("a fraction of an epoch", wrong("--epochs=1.5", says=("whole number", "--epochs=1.5"))),
    Row("a batch in words", wrong("--batch_size=big", says=("a whole number or auto", "=big"))),
    Row("a switch between", wrong("--monitor=maybe", says=("true or false", "--monitor=maybe"))),
    Row("a switch off and on", wrong("--nomonitor=true", says=("--nomonitor=true",))),
    Row("--set without a value", wrong("--set=temperature", says=("name=value", "temperature"))),
    Row("--set of what JSON cannot hold", wrong("--set=version={1, 2}", says=("version={1, 2}",))),
    Row("--set of what Python cannot hash", option(["--set=version={[1]: 2}"], "`version`")),
    Row("text for an option", option(["--set=temperature=abc"], "`temperature`", "'abc'")),
    Row("a fraction for an option", option(["--method=cmc", "--set=dim=1.5"], "`dim`", "1.5")),
    Row("text for a switch", option(["--method=simsiam", "--set=symmetric=no"], "True or False")),
    Row("a network in the shell", option(["--set=projector=mlp"], "`projector`", "Python alone")),
    Row(
        "a missing option",
        option(["--method=feature_distillation"], "`teacher`", "--set=teacher=VALUE"),
    ),
    Row("an unknown option", option(["--set=temprature=1"], "Did you mean 'temperature'")),
    Row("`name` as an option", option(["--set=name=x"], "no argument 'name'", "temperature")),
    Row("`backbone` as an option", option(["--set=backbone=vit_tiny"], "--backbone", "vit_tiny")),
    Row("an unknown method", option(["--method=simlcr"], "Did you mean 'simclr'")),
    Row("options of all methods", every_option_has_a_type),
    Row("options out of range", values_out_of_range),
    Row("all forms of flags", forms),
    Row("help", helps),
    Row("a run folder under a file", unusable("images.npz/run", "Not a directory", "`out`")),
    Row("too long a name of a run folder", unusable("x" * 300, "too long", "`out`")),
    Row("a run folder that may not be made", read_only),
    Row("a full disk", raises(OSError(errno.ENOSPC, "No space left"), 1, "No space left")),
    Row("an absent package", raises(ImportError("pip install x"), 1, "pip install x")),
    Row("ONNX without its packages", onnx_without_its_packages),
    Row(
        "a network that cannot be fetched",
        network_out_of_reach,
        ("`backbone` cannot be made", "MobileNetV2(weights=", "URL fetch failure"),
    ),
    Row("a bug", bugs_show_their_trace),
    Row("Ctrl-C", raises(KeyboardInterrupt(), 130, "same command goes on", "checkpoint", "/run")),
]
