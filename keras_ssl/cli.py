"""The shell command `keras-ssl`: the main job without writing Python.

keras-ssl pretrain --method=simclr --data=path/to/images --out=runs/1

A command is a function in `COMMANDS`: its signature makes the flags, its docstring the help.
"""

import ast
import dataclasses
import functools
import inspect
import json
import pathlib
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping

from absl import flags, logging

from keras_ssl import methods, runs
from keras_ssl.encoders import load_encoder
from keras_ssl.export import export_encoder
from keras_ssl.methods.create import find, needed, options_of
from keras_ssl.methods.listing import SMOKE, backends, paper, results, told
from keras_ssl.ops.names import near


class _NumberOrAuto(flags.IntegerParser):
    """Takes whole numbers and the word auto."""

    def parse(self, argument):
        return argument if argument == "auto" else super().parse(argument)


_AUTO = typing.Literal["auto"]  # in the place of a number
_DEFINE = {
    _AUTO: functools.partial(flags.DEFINE, _NumberOrAuto()),
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}
_TAKES = {
    _AUTO: "a whole number or auto",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
_FORMS = {_AUTO: "NUMBER|auto", int: "NUMBER", float: "NUMBER", str: "TEXT"}
_OF_SET = (
    " Values as in Python (0.2, [1, 2], True, None); all else is text. Names: "
    "keras-ssl methods --method=METHOD."
)
_HELP = ("--help", "-h")
_WIDTH = 96


@dataclasses.dataclass(frozen=True)
class Command:
    """A function that the shell can call; of each argument its flag's type, default and help.

    An argument of type dict is the flag `--set=name=value`, which may be repeated; `int` beside
    `Literal["auto"]` takes that word, too; arguments that are neither bool, int nor float are text.

    Attributes:
        function: what runs; it says the result itself.
        examples: commands as typed.
        required: what an argument takes that must be given though Python has a default; those
            without a default must be, too.
        groups: names of arguments by heading, for the help; the others come last.
        python_only: arguments without a flag.
        word: an argument that is typed without its name, the first word after the command's; as a
            pair of its name and what the help calls it, such as ("encoder", "RUN").
    """

    function: Callable
    examples: tuple = ()
    word: tuple = ()
    required: Mapping = dataclasses.field(default_factory=dict)
    groups: Mapping = dataclasses.field(default_factory=dict)
    python_only: tuple = ()

    @property
    def arguments(self) -> dict:
        """The arguments that have flags: `inspect.Parameter` by name."""
        parameters = inspect.signature(self.function).parameters
        without = (*self.python_only, *self.word[:1])
        return {name: p for name, p in parameters.items() if name not in without}

    @property
    def form(self) -> str:
        """What follows the command's name."""
        return " ".join([*self.word[1:], "--flag=value ..."])

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return inspect.getdoc(self.function).splitlines()[0]

    @property
    def needs(self) -> dict:
        """What the arguments take that must be given, by name."""
        described = _described(self.function)
        return {
            name: self.required.get(name, described[name])
            for name, parameter in self.arguments.items()
            if name in self.required or parameter.default is parameter.empty
        }

    def kinds(self) -> dict:
        """Types of the flags by argument: the first of `_DEFINE` or dict, or str for all else."""
        hints = typing.get_type_hints(self.function)
        found = {}
        for name in self.arguments:
            kinds = (hints[name], *typing.get_args(hints[name]))
            found[name] = next((k for k in (*_DEFINE, dict) if k in kinds), str)
        return found


def _of_runs(name):
    """The function of that name in `runs`, looked up when it is called."""

    @functools.wraps(getattr(runs, name))
    def call(**values):
        getattr(runs, name)(**values)

    return call


def _methods(method: str | None = None):
    """List the methods, or the options of one, which `pretrain` takes as --set=NAME=VALUE.

    Of each: family, backends and paper; what it optimises; what it has learned. kNN is the accuracy
    of weighted nearest neighbours on test images, in brackets that of the same network before.
    Methods without such a run are "smoke only": they pass their tests, and that is all we know.

    Args:
        method: name of the method whose options are listed, below all of its runs; by default all
            methods are, with one run each.
    """
    chosen = methods.METHODS if method is None else [find(method)]
    rows = [("method", "family", "backends", "paper")]
    for each in chosen:
        address = paper(each).removeprefix("https://")
        rows.append((each.__name__, each.family, ", ".join(backends(each)), address))
    widths = [max(map(len, column)) for column in zip(*rows)]
    heading, *heads = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    print(heading)
    for each, head in zip(chosen, heads):
        runs_of = [told(run) for run in results(each)] or [SMOKE]
        shown = runs_of[:1] if method is None else runs_of
        print("\n    ".join([head, each.__doc__.splitlines()[0], *shown]))
    if method is None:
        return
    print("\nOptions:")
    described = _described(find(method))
    for option, parameter in options_of(find(method)).items():
        known = parameter.default not in (None, parameter.empty)
        default = f" (default: {parameter.default})" if known else ""
        if option in needed(find(method)):
            default = " (must be given)"
        print(_entry(option + default, described[option]))


def _export(
    encoder: str,
    out: str,
    format: str | None = None,
    layer: str | None = None,
    allow_code: bool = False,
):
    """Write an encoder in another format.

    Args:
        encoder: a run folder, a `.keras` file or a SavedModel.
        out: the file or folder to write, replaced once the new one is complete.
        format: savedmodel, keras, onnx or litert; by default that of the ending of `out`, and
            savedmodel for all others.
        layer: name of an inner stage to end with; by default the last.
        allow_code: whether a `.keras` file may bring code of its own (Lambda layers).
    """
    network = load_encoder(encoder, allow_code=allow_code)
    print(f"encoder  {export_encoder(network, out, format, layer)}")


_READING = ("data_dir", "download", "max_corrupt_fraction", "max_pixels")
COMMANDS = {
    "pretrain": Command(
        _of_runs("pretrain"),
        examples=(
            "keras-ssl pretrain --method=simclr --data=path/to/images --out=runs/1",
            "keras-ssl pretrain --data=shapes --backbone=small_conv --epochs=3 --out=runs/shapes",
            "keras-ssl pretrain --method=moco --data=cifar10 --data_dir=path/to/tfds --out=runs/2 "
            "--set=queue_size=8192 --set=temperature=0.2",
        ),
        required={
            "data": "a folder of images, the name of a TFDS data set, an .npz file, or "
            "--data=shapes for images drawn here",
            "out": "the folder of the run, such as --out=runs/1",
        },
        groups={
            "What, on what, and where to": (
                "method",
                "data",
                "out",
                "backbone",
                "weights",
                "method_options",
            ),
            "Images": (
                "image_size",
                "test",
                *_READING,
            ),
            "Training": (
                "epochs",
                "batch_size",
                "seed",
                "optimizer",
                "learning_rate",
                "weight_decay",
                "layer_decay",
                "gradient_accumulation_steps",
                "precision",
                "strategy",
            ),
            "On the way": ("monitor", "early_stopping", "callbacks", "checkpoint_every"),
        },
        python_only=("verbose",),
    ),
    "evaluate": Command(
        _of_runs("evaluate"),
        examples=(
            "keras-ssl evaluate runs/1 --data=path/to/images",
            "keras-ssl evaluate runs/1 --data=path/to/images --protocols=knn,linear,layers",
            "keras-ssl evaluate encoder.keras --data=cifar10 --data_dir=path/to/tfds "
            "--protocols=lowshot,finetune --out=card.json",
        ),
        word=("encoder", "RUN"),
        groups={
            "On what, how, and where to": ("data", "test", "protocols", "out"),
            "Protocols": ("layer", "fractions", "draws", "baseline", "seed"),
            "Images": _READING,
        },
        python_only=("verbose",),
    ),
    "compare": Command(
        _of_runs("compare"),
        examples=(
            "keras-ssl compare --methods=simclr,byol,vicreg --data=path/to/images --seeds=3 "
            "--out=runs/three",
            "keras-ssl compare --methods=simclr,moco --data=shapes --backbone=small_conv "
            "--epochs=3 --set=simclr.temperature=0.2 --out=runs/two",
        ),
        groups={
            "What, on what, and where to": ("methods", "data", "out", "seeds", "method_options"),
            "The same for all runs": (
                "backbone",
                "epochs",
                "batch_size",
                "optimizer",
                "precision",
                "checkpoint_every",
            ),
            "Images": ("image_size", "test", *_READING),
            "Evaluation": ("protocols", "fractions", "draws"),
        },
        python_only=("verbose",),
    ),
    "embed": Command(
        _of_runs("embed"),
        examples=(
            "keras-ssl embed runs/1 --data=path/to/images --out=features.npz",
            "keras-ssl embed runs/1 --data=path/to/images --out=map.html",
        ),
        word=("encoder", "RUN"),
        groups={
            "Of what, and where to": ("data", "out"),
            "Images": ("image_size", "split", *_READING),
        },
        python_only=("verbose",),
    ),
    "export": Command(
        _export,
        examples=(
            "keras-ssl export runs/1 --out=encoder",
            "keras-ssl export runs/1 --format=onnx --out=encoder.onnx",
            "keras-ssl export runs/1 --layer=stage3_relu --out=encoder.keras",
        ),
        word=("encoder", "RUN"),
    ),
    "methods": Command(
        _methods, examples=("keras-ssl methods", "keras-ssl methods --method=simclr")
    ),
}


class _UsageError(Exception):
    """A command that cannot be understood."""


def main(words=None) -> int:
    """Run the command in `words`, by default those of the shell.

    Errors that the user can mend are one line on stderr; any other is a bug and shows its trace.

    Returns:
        The exit code: 0; 1 for an error; 2 for a command that is not understood; 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if words is None else words)
    name, values = words[0] if words else "", {}
    logging.set_verbosity(logging.WARNING)  # hides TensorFlow's messages on what it saves
    try:
        if name in _HELP:
            print(_overview())
        elif name not in COMMANDS:
            raise _UsageError(
                f"The first word must be a command. Received: {name or 'none'}."
                + near(name, COMMANDS)
            )
        elif any(word in _HELP for word in words[1:]):
            print(_page(name))
        else:
            values |= _parse(name, words[1:])
            COMMANDS[name].function(**values)
    except _UsageError as error:
        page = f"keras-ssl {name} --help" if name in COMMANDS else "keras-ssl --help"
        return _fail(f"{error} `{page}` tells more.", 2)
    except OSError as error:
        return _fail(_system_error(error, values), 1)
    except (ValueError, RuntimeError, ImportError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        onwards = (
            f" The same command goes on from the last checkpoint in {values['out']}, if it has one."
            if name in ("pretrain", "compare") and "out" in values
            else ""
        )
        return _fail(f"Stopped by Ctrl-C.{onwards}", 130)
    return 0


def _fail(message, code):
    print(f"keras-ssl: {message}", file=sys.stderr)
    return code


def _parse(name, words):
    """The arguments for the command's function from the words after its name."""
    command = COMMANDS[name]
    kinds, described = command.kinds(), _described(command.function)
    defined = flags.FlagValues()  # of its own: other libraries' flags are not the command's
    for argument, parameter in command.arguments.items():
        flag, kind, text = _flag(argument, kinds), kinds[argument], described[argument]
        if kind is dict:
            flags.DEFINE_multi_string(flag, [], text, flag_values=defined)
            continue
        default = None if argument in command.needs else parameter.default
        _DEFINE.get(kind, flags.DEFINE_string)(flag, default, text, flag_values=defined)
    try:
        _, *others = defined(["keras-ssl", *words])
    except flags.UnrecognizedFlagError as error:
        raise _UsageError(
            f"`{name}` has no flag --{error.flagname}.{near(error.flagname, defined)}"
        ) from error
    except flags.IllegalFlagValueError as error:
        flag, value = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL).groups()
        raise _UsageError(
            f"--{flag} must be {_TAKES[kinds[flag]]}. Received: --{flag}={value}."
        ) from error
    except (flags.Error, ValueError) as error:  # such as a flag without a value
        raise _UsageError(f"{error}.") from error
    values = {argument: defined[_flag(argument, kinds)].value for argument in kinds}
    if command.word and others:
        values[command.word[0]], *others = others
    elif command.word:
        argument, called = command.word
        raise _UsageError(
            f"`{name}` needs {called} as its first word: {described[argument].rstrip('.')}."
        )
    if others:
        takes = f"{command.word[1]} and flags alone" if command.word else "flags alone"
        raise _UsageError(f"`{name}` takes {takes}, --name=value. Received: {' '.join(others)}.")
    for argument, takes in command.needs.items():
        if values[argument] in (None, ""):  # "" is what an unset shell variable leaves
            raise _UsageError(f"`{name}` needs --{argument}: {takes.rstrip('.')}.")
    return {a: _pairs(v) if kinds.get(a) is dict else v for a, v in values.items()}


def _flag(argument, kinds):
    return "set" if kinds[argument] is dict else argument


def _pairs(pairs):
    """The dict that `--set` gives: literals of Python where they are such, else text."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise _UsageError(f"--set takes name=value. Received: --set={pair}.")
        try:
            options[name] = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError, TypeError):
            options[name] = value
        try:
            json.dumps(options[name])
        except TypeError as error:
            raise _UsageError(
                "--set takes numbers, text, True, False, None, and lists and dicts of them. "
                f"Received: --set={pair}."
            ) from error
    return options


def _system_error(error, values):
    """What the system refused, and which flag named that path."""
    if error.filename is None or error.strerror is None:
        return str(error)
    path = pathlib.PurePath(str(error.filename))
    flags_of = [
        f"--{name}={value}"
        for name, value in values.items()
        if isinstance(value, str) and _related(pathlib.PurePath(value), path)
    ]
    received = f" Received: {', '.join(flags_of)}." if flags_of else ""
    return (
        f"{path} cannot be used: {error.strerror}.{received} Choose another path, or mend this one."
    )


def _related(one, other):
    return one.is_relative_to(other) or other.is_relative_to(one)


def _overview():
    """The help of the command as a whole."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "keras-ssl COMMAND [RUN] --flag=value ...",
            "\nCommands:",
            *lines,
            "\nExample:",
            f"  {COMMANDS['pretrain'].examples[0]}",
            "\nkeras-ssl COMMAND --help tells the flags of a command.",
        ]
    )


def _page(name):
    """The help of one command: what it does, examples, flags by group."""
    command = COMMANDS[name]
    text = inspect.getdoc(command.function).split("\nArgs:\n")[0]
    paragraphs = [" ".join(p.split()).replace("`", "") for p in text.split("\n\n") if p.strip()]
    lines = [f"keras-ssl {name} {command.form}"]
    lines += ["\n" + textwrap.fill(paragraph, _WIDTH) for paragraph in paragraphs]
    lines += ["\nExamples:", *(f"  {example}" for example in command.examples)]
    grouped = [argument for group in command.groups.values() for argument in group]
    others = [argument for argument in command.arguments if argument not in grouped]
    kinds, described = command.kinds(), _described(command.function)
    if command.word:
        argument, called = command.word
        lines += ["", _entry(called, described[argument])]
    for heading, group in {**command.groups, "Further" if grouped else "Flags": others}.items():
        lines += [f"\n{heading}:"] if group else []
        for argument in group:
            text = described[argument] + (_OF_SET if kinds[argument] is dict else "")
            lines.append(_entry(_form(argument, kinds[argument], command), text))
    return "\n".join(lines)


def _form(argument, kind, command):
    """A flag as it is typed, and what holds without it."""
    default = command.arguments[argument].default
    if kind is dict:
        return "--set=NAME=VALUE (may be repeated)"
    form = f"--[no]{argument}" if kind is bool else f"--{argument}="
    form += _FORMS.get(kind, "")
    if argument in command.needs:
        return form + " (must be given)"
    if default is None:
        return form
    return form + f" (default: {str(default).lower() if kind is bool else default})"


def _entry(form, text):
    margin = " " * 8
    wrapped = textwrap.fill(
        text.replace("`", ""),
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"  {form}\n{wrapped}"


def _described(function):
    """What the docstring of a function or class says of each argument, by name."""
    _, _, text = inspect.getdoc(function).partition("\nArgs:\n")
    parts = re.split(r"^    (\**\w+): ", text.split("\n\n")[0], flags=re.MULTILINE)[1:]
    return {name: " ".join(words.split()) for name, words in zip(parts[::2], parts[1::2])}


if __name__ == "__main__":
    sys.exit(main())
