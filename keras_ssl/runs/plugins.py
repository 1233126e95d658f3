"""Keras callbacks of the user's own, by import path: loggers, for instance."""

import importlib
import os
import sys
from typing import Any

import keras


def imported(callbacks: Any) -> list[keras.callbacks.Callback]:
    """The callbacks that import paths name.

    Args:
        callbacks: None; text of import paths `module:name` with commas between them; or a list of
            such paths and of callbacks. A class is made without arguments. Modules are also looked
            for in the working directory.

    Returns:
        A list of callbacks.

    Raises:
        ValueError: if a path has another form, cannot be imported, or names no callback.
    """
    if callbacks is None:
        return []
    given = callbacks.split(",") if isinstance(callbacks, str) else callbacks
    given = given if isinstance(given, list | tuple) else [given]
    return [_imported(each.strip()) if isinstance(each, str) else _checked(each) for each in given]


def _imported(path: str) -> keras.callbacks.Callback:
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(
            "`callbacks` must be import paths module:name, with commas between them. Received: "
            f"{path!r}. For instance: my_loggers:WandbLogger."
        )
    folder = os.getcwd()
    if folder not in sys.path:  # a shell command does not look there by itself
        sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), name)
        return _checked(found() if isinstance(found, type) else found)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"`callbacks` cannot be made. Received: {path!r}: {error}. A class is made without "
            "arguments; where it needs some, name an object: module:object."
        ) from error


def _checked(callback: Any) -> keras.callbacks.Callback:
    if not isinstance(callback, keras.callbacks.Callback):
        raise ValueError(
            "`callbacks` must be Keras callbacks, or import paths of them. Received: "
            f"{type(callback).__name__}."
        )
    return callback
