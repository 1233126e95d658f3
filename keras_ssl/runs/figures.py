"""What a finished run shows: figures for its table, and pictures of generative methods."""

import keras
import numpy as np

from keras_ssl import evaluation
from keras_ssl.ops import to_unit_range

_PICTURES, _LINES, _STEPS = 24, 6, 8
BITS = {"dimension": "bits per dimension", "pixel": "bits per pixel in the palette"}
_SIGNS = {"exact": "", "bound": "\u2264 ", "estimate": "\u2248 "}  # of bits, which -log p gives


def code_lengths(model, images):
    """`evaluation.code_lengths` of images; None where the method has no likelihood."""
    if not model.can("log_prob"):
        return None
    return evaluation.code_lengths(model.log_prob, images, per=model.code_unit)


def table(model, rows, images, described, lengths):
    """The figures of the run as text by name.

    Args:
        model: the trained method.
        rows: metrics by epoch, epoch 0 being the untrained network.
        images: those that generative figures are measured on.
        described: what to call these images.
        lengths: their `code_lengths`.

    Returns:
        dict.
    """
    lines = {"epochs": str(rows[-1]["epoch"])}
    if "knn" in rows[0] and len(rows) > 1:
        lines["kNN accuracy, random encoder"] = f"{rows[0]['knn']:.3f}"
        lines["kNN accuracy, trained encoder"] = f"{rows[-1]['knn']:.3f}"
    generative = generative_figures(model, images, lengths)
    return lines | {f"{name}, {described}": value for name, value in generative.items()}


def is_generative(model):
    """Whether a method gives likelihoods or reconstructions."""
    return model.can("log_prob") or model.can("reconstruct")


def generative_figures(model, images, lengths):
    """Code length and reconstruction error of `images` as text by name, where the method has them.

    `lengths` are their `code_lengths`. Bits are told with their standard error; the
    sign before them tells an upper bound or an estimate. See `evaluation.reconstruction_ratio`.
    """
    figures = {}
    if lengths is not None:
        mean, error = evaluation.mean_and_error(lengths)
        sign = _SIGNS.get(model.likelihood_kind, "")
        figures[BITS[model.code_unit]] = f"{sign}{mean:.3f} ± {error:.3f}"
    if model.can("reconstruct"):
        ratio = evaluation.reconstruction_ratio(model.reconstruct, images)
        figures["reconstruction error / that of shuffled pairs"] = f"{ratio:.3f}"
    return figures


def pictures(model, images):
    """What the report shows of a generative method: images that it makes."""
    made = {}
    if model.can("interpolate") and len(images) >= 2 * _LINES:
        ends = to_unit_range(images[: 2 * _LINES])
        line = keras.ops.convert_to_numpy(model.interpolate(ends[::2], ends[1::2], _STEPS))
        first, last = (keras.ops.convert_to_numpy(ends[i::2])[:, None] for i in (0, 1))
        made["interpolations"] = np.concatenate([first, line, last], axis=1)
    if model.can("reconstruct"):
        shown = images[:_PICTURES]
        pair = [to_unit_range(shown), model.reconstruct(shown)]
        made["reconstructions"] = np.stack([keras.ops.convert_to_numpy(x) for x in pair], axis=1)
    if model.can("sample"):
        made["samples"] = keras.ops.convert_to_numpy(model.sample(_PICTURES))
    return made
