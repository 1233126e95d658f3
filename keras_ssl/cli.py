"""The shell command `keras-ssl`: the main job without writing Python.

keras-ssl pretrain --method=simclr --data=path/to/images --out=runs/1
"""

import ast
import inspect
import re
import sys
import typing

from absl import app, flags, logging

from keras_ssl import methods, runs
from keras_ssl.ops.names import near

_COMMANDS = ("pretrain", "methods")
_PYTHON_ONLY = ("method_options", "verbose")  # arguments of `pretrain` without a flag of their own
_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer}  # all else is text

FLAGS = flags.FLAGS


def _run(arguments):
    commands = arguments[1:]
    if len(commands) != 1 or commands[0] not in _COMMANDS:
        hint = near(commands[0], _COMMANDS) if commands else f" Known: {', '.join(_COMMANDS)}."
        raise app.UsageError(
            f"`keras-ssl` takes one command. Received: {' '.join(commands) or 'none'}.{hint}"
        )
    logging.set_verbosity(logging.WARNING)  # hides TensorFlow's messages on what it saves
    if commands[0] == "methods":
        for method in methods.METHODS:
            print(f"{method.__name__:20} {method.__doc__.splitlines()[0]}")
        return 0
    if FLAGS.out is None:
        raise app.UsageError("`pretrain` needs a run folder: --out=runs/1")
    try:
        values = {name: FLAGS[name].value for name in _options()}
        runs.pretrain(**values, method_options=_method_options(FLAGS["set"].value))
    except (ValueError, RuntimeError, ImportError) as error:
        print(f"keras-ssl: {error}", file=sys.stderr)
        return 1
    return 0


def _method_options(pairs):
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"`--set` takes name=value. Received: --set={pair}.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _options():
    """The arguments of `pretrain` that are flags: `inspect.Parameter` by name."""
    parameters = inspect.signature(runs.pretrain).parameters
    return {name: p for name, p in parameters.items() if name not in _PYTHON_ONLY}


def _help():
    """What the docstring of `pretrain` says of each argument, by name."""
    text = inspect.getdoc(runs.pretrain).split("\nArgs:\n")[1].split("\n\nReturns:")[0]
    parts = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)[1:]
    return {name: " ".join(words.split()) for name, words in zip(parts[::2], parts[1::2])}


def _define_flags():
    """Flags from the signature and docstring of `pretrain`, where each option is written once."""
    described, hints = _help(), typing.get_type_hints(runs.pretrain)
    for name, parameter in _options().items():
        kinds = [k for k in (hints[name], *typing.get_args(hints[name])) if k in _DEFINE]
        define = _DEFINE[kinds[0]] if kinds else flags.DEFINE_string
        default = None if name == "out" else parameter.default
        define(name, default, described[name].replace("`", ""))
    flags.DEFINE_multi_string("set", [], "Argument of the method, as name=value; may be repeated.")


def main():
    """Entry point of the command `keras-ssl`."""
    _define_flags()
    # `--help` shows docstring and flags of the main module, which for an installed command is not
    # this file.
    sys.modules["__main__"].__doc__ = __doc__
    for name in (*_options(), "set"):
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])
    app.run(_run)


if __name__ == "__main__":
    main()
