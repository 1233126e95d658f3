"""What `compare` checks before anything is trained, and the forms of its arguments."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl import data as data_module
from keras_ssl import distribute, evaluation
from keras_ssl.data import Source
from keras_ssl.methods import create as creation
from keras_ssl.ops.names import near, some
from keras_ssl.runs import teachers
from keras_ssl.runs.evaluate import check_images


def check_alone() -> None:
    """Raise where several processes would train together."""
    if distribute.processes() > 1:
        raise ValueError(
            "A comparison runs in one process (on all its GPUs). Received: TF_CONFIG with "
            f"{distribute.processes()} processes. Unset it, or call `pretrain` in each of them."
        )


def check_is_number(batch_size: Any) -> None:
    """Raise for text in the place of a batch size, such as "auto"."""
    if isinstance(batch_size, str):
        raise ValueError(
            "`batch_size` of a comparison must be a number, as all methods have the same. "
            f"Received: batch_size={batch_size!r}. `pretrain` finds what fits for each of them; "
            "take the least of these."
        )


def classes_of(methods: Any) -> dict:
    """Classes of methods by the names of their folders."""
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",")]
    given = list(methods) if isinstance(methods, list | tuple) else [methods]
    found: dict = {}
    for cls in map(creation.find, given):
        name = cls.__name__.lower()
        if found.setdefault(name, cls) is not cls:
            raise ValueError(
                f"`methods` must have names of their own. Received: two called {name}. Rename one."
            )
        if "backbone" not in creation.arguments(cls):
            raise ValueError(
                "`methods` must be such that train a given backbone. Received: "
                f"{cls.__name__}, which brings its own network. Leave it out."
            )
    if not found:
        raise ValueError(
            f"`methods` must name at least one method. Received: methods={methods!r}. Use "
            "'simclr,byol', for instance."
        )
    return found


def options_of(given: Mapping | None, classes: Mapping) -> dict:
    """The options of each method, from options named METHOD.NAME."""
    found: dict = {name: {} for name in classes}
    plain = {name.replace("_", ""): name for name in classes}
    for key, value in (given or {}).items():
        method, dot, option = key.partition(".")
        name = plain.get(method.lower().replace("-", "").replace("_", ""), method)
        if not dot or name not in classes:
            raise ValueError(
                "`method_options` must have names such as simclr.temperature, of the methods that "
                f"are compared. Received: {key}={value!r}." + near(name, classes)
            )
        found[name][option] = os.fspath(value) if isinstance(value, os.PathLike) else value
    return found


def check_methods(classes: Mapping, options: Mapping, out: Any, seeds: int) -> None:
    """Raise for options that are wrong or absent, before images are read."""
    for name, cls in classes.items():
        creation.check_options(cls, options[name])
        for needed in creation.needed(cls):
            if needed not in options[name]:
                raise ValueError(
                    f"`{needed}` of {cls.__name__} must be given. Received: "
                    f"{some(sorted(options[name])) or 'no options'}. Pass method_options="
                    f"{{'{name}.{needed}': ...}}, in the shell --set={name}.{needed}=VALUE, or "
                    f"leave {name} out; `keras-ssl methods --method={name}` tells what it is."
                )
        for seed in range(seeds):
            teachers.given(cls, options[name], pathlib.Path(out) / name / f"seed-{seed}")


def check_budget(
    network: keras.Model,
    train: Source,
    test: Source | None,
    batch_size: int,
    shares: tuple,
    seed: int,
) -> None:
    """Raise where these images cannot be trained on in such batches, or not be evaluated on."""
    check_images(network, train, test)
    data_module.check_batch_size(batch_size, train.size, train.name, least=2)
    for share in shares:
        evaluation.draw_labels(train.labels, share, seed)
