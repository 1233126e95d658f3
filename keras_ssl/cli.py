"""The shell command `keras-ssl`: the main job without writing Python.

keras-ssl pretrain --method=simclr --data=path/to/images --out=runs/1
"""

import ast
import sys

from absl import app, flags, logging

from keras_ssl.ops.names import near

_COMMANDS = ("pretrain", "methods")

FLAGS = flags.FLAGS
_PASSED = (
    "method",
    "data",
    "out",
    "backbone",
    "image_size",
    "epochs",
    "batch_size",
    "seed",
    "test",
    "data_dir",
    "precision",
    "gradient_accumulation_steps",
    "strategy",
    "monitor",
    "checkpoint_every",
)


def _run(arguments):
    commands = arguments[1:]
    if len(commands) != 1 or commands[0] not in _COMMANDS:
        hint = near(commands[0], _COMMANDS) if commands else f" Known: {', '.join(_COMMANDS)}."
        raise app.UsageError(f"Say one command. Received: {' '.join(commands) or 'none'}.{hint}")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells of its savings otherwise
    from keras_ssl import methods, runs

    if commands[0] == "methods":
        for method in methods.METHODS.values():
            print(f"{method.__name__:20} {method.__doc__.splitlines()[0]}")
        return 0
    if FLAGS.out is None:
        raise app.UsageError("Say where the run goes: --out=runs/1")
    try:
        runs.pretrain(
            **{name: FLAGS[name].value for name in _PASSED},
            method_options=_options(FLAGS["set"].value),
        )
    except (ValueError, RuntimeError, ImportError) as error:
        print(f"keras-ssl: {error}", file=sys.stderr)
        return 1
    return 0


def _options(pairs):
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


def _define_flags():
    flags.DEFINE_string("method", "simclr", "Name of the method; `keras-ssl methods` lists them.")
    flags.DEFINE_string(
        "data", "shapes", "Folder of images, TFDS name, .npz file, or `shapes` (drawn here)."
    )
    flags.DEFINE_string(
        "out", None, "Run folder; the same command on the same folder continues the run."
    )
    flags.DEFINE_string("backbone", "resnet18", "Name of the backbone.")
    flags.DEFINE_integer(
        "image_size", None, "Height and width of the views; default: the images' own, at most 224."
    )
    flags.DEFINE_integer("epochs", 100, "Passes over the images.", lower_bound=1)
    flags.DEFINE_integer(
        "batch_size", None, "Images in the global batch; default 256.", lower_bound=2
    )
    flags.DEFINE_integer("seed", 0, "Of weights, order and views.")
    flags.DEFINE_string(
        "test", None, "Labelled images for the kNN monitor; default: the data's own test split."
    )
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie.")
    flags.DEFINE_enum(
        "precision", None, ["float32", "mixed_bfloat16", "mixed_float16"], "Number format."
    )
    flags.DEFINE_integer(
        "gradient_accumulation_steps",
        None,
        "Batches averaged before the optimizer moves.",
        lower_bound=2,
    )
    flags.DEFINE_enum(
        "strategy", "auto", ["auto", "one"], "All accelerators of this machine, or one device."
    )
    flags.DEFINE_bool("monitor", True, "Whether the collapse monitor watches every epoch.")
    flags.DEFINE_integer("checkpoint_every", 1, "Epochs between checkpoints.", lower_bound=1)
    flags.DEFINE_multi_string("set", [], "Argument of the method, as name=value; may be repeated.")


def main():
    """Entry point of the command `keras-ssl`."""
    _define_flags()
    app.run(_run)


if __name__ == "__main__":
    main()
