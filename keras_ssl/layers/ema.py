"""Teachers: networks that follow a student by an exponential moving average of its weights."""

import keras

from keras_ssl.layers.dropout import DropPath


def make_teacher(student: keras.Model, name: str | None = None) -> keras.Model:
    """A copy of `student` with equal weights and variables that are not trainable.

    The variables are frozen, not the layers: `teacher.trainable = False` would put batch
    normalisation into inference mode, but the teachers of BYOL and MoCo normalise by the statistics
    of their own batch (the authors' code). Stochastic depth is left out, as in DINO's.

    Args:
        student: a built model that can be made again from its config.
        name: name of the copy, by default `teacher_` and the student's.

    Returns:
        The teacher; call it with `training=True` for batch statistics.
    """
    teacher = type(student).from_config(student.get_config())
    teacher.name = name or f"teacher_{student.name}"
    teacher.set_weights(student.get_weights())
    for layer in teacher._flatten_layers():
        if isinstance(layer, DropPath):
            layer.rate = 0.0
    for variable in teacher.trainable_variables:
        variable.trainable = False
    return teacher


def pairs(teacher: keras.Model, student: keras.Model) -> list:
    """The teacher's and the student's trainable weights, without batch statistics."""
    # The student decides: its moving statistics are not trainable, and the teacher keeps its own.
    following = [(t, s) for t, s in zip(teacher.weights, student.weights) if s.trainable]
    if len(teacher.weights) != len(student.weights) or not following:
        raise ValueError(
            "`teacher` must be a copy of `student`, as `make_teacher` makes it. "
            f"Received: {len(teacher.weights)} weights for {len(student.weights)}."
        )
    return following


def update(teacher: keras.Model, student: keras.Model, decay) -> None:
    """Move the teacher towards the student: `t <- decay * t + (1 - decay) * s`, weight by weight.

    Args:
        teacher: made by `make_teacher`.
        student: the network it was made from.
        decay: share of the teacher kept, in [0, 1]; a number or a scalar tensor.
    """
    for t, s in pairs(teacher, student):
        kept = keras.ops.cast(decay, t.dtype)
        t.assign(t * kept + s * (1 - kept))
