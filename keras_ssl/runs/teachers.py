"""Frozen teachers of a run: a copy in its folder, so that their own files are needed once."""

import os
import pathlib

import keras

from keras_ssl.export import save_backbone


def given(cls, options: dict, out) -> dict:
    """`options` of a method's class with the copies in the run folder `out` for their originals.

    Raises:
        ValueError: if there is neither copy nor original, or a teacher is a model, which the record
            of a run cannot name.
    """
    found = dict(options)
    for name in cls.teachers:
        path = options.get(name)
        if isinstance(path, keras.Layer):
            raise ValueError(
                f"`{name}` of a run must be a path, so that the same command finds it again. "
                f"Received: the model '{path.name}'. Write it with model.save('{name}.keras') and "
                "pass that path."
            )
        if not isinstance(path, str) or not isinstance(out, str | os.PathLike):
            continue
        copy = _copy(out, name)
        if copy.is_file():
            found[name] = str(copy)
        elif not os.path.exists(path):
            raise ValueError(
                f"`{name}` must be the path of a run folder, a .keras file or a SavedModel. "
                f"Received: {name}={path!r}, where there is nothing, and {out} holds no copy. "
                "`keras-ssl pretrain` makes a run folder."
            )
    return found


def keep(model, out) -> None:
    """Copies of the teachers that `model` holds in the run folder `out`, where they are absent."""
    for name in model.teachers:
        network, path = getattr(model, name), _copy(out, name)
        if isinstance(network, keras.Model) and not path.exists():
            save_backbone(network, path)


def _copy(out, name):
    return pathlib.Path(out) / f"{name}.keras"
