"""What a finished run shows: figures for its table, and pictures that its method makes."""

import keras
import numpy as np

from keras_ssl import backbones, evaluation
from keras_ssl.ops import to_unit_range

_PICTURES, _LINES, _STEPS = 24, 6, 8
_CLUSTERS, _MEMBERS = 12, 10  # those shown
_ATTENDED, _HEADS = 8, 6
_DARK = 0.15  # of a picture where attention is nil
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


def pictures(model, images, training_images):
    """What the report shows beside features: images that the method makes, clusters, attention.

    Args:
        model: the trained method.
        images: those that generative figures are measured on.
        training_images: those of the report's neighbours and map.

    Returns:
        Arguments of `report.write_report`.
    """
    made = {}
    if model.can("assign"):
        made["clusters"] = _clusters(model, training_images)
    if backbones.has_attention_maps(model.backbone):
        made["attention"] = _attention(model.backbone, images[:_ATTENDED])
    if model.can("interpolate") and len(images) >= 2 * _LINES:
        ends = to_unit_range(images[: 2 * _LINES])
        line = keras.ops.convert_to_numpy(model.interpolate(ends[::2], ends[1::2], _STEPS))
        first, last = (keras.ops.convert_to_numpy(ends[i::2])[:, None] for i in (0, 1))
        made["interpolations"] = np.concatenate([first, line, last], axis=1)
    if model.can("reconstruct"):
        shown = images[:_PICTURES]
        row = [to_unit_range(shown), model.reconstruct(shown)]
        if model.can("mask"):
            row.insert(1, model.mask(shown))
        made["reconstructions"] = np.stack([keras.ops.convert_to_numpy(x) for x in row], axis=1)
    if model.can("sample"):
        made["samples"] = keras.ops.convert_to_numpy(model.sample(_PICTURES))
    return made


def _clusters(model, images):
    """Places of some members of the clusters with most images, the largest first."""
    as_rows = lambda x: keras.ops.cast(model.assign(x), "float32")[:, None]  # noqa: E731
    assigned = evaluation.extract(as_rows, images)[:, 0]
    names, counts = np.unique(assigned, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:_CLUSTERS]
    return [np.flatnonzero(assigned == name)[:_MEMBERS] for name in largest]


def _attention(backbone, images):
    """Each image, and it again, dark where the last block does not look: all heads, then each."""
    maps = backbones.attention_maps(backbone, images)[:, :_HEADS]
    maps = np.concatenate([maps.mean(axis=1, keepdims=True), maps], axis=1)
    maps = maps / np.maximum(maps.max(axis=(2, 3), keepdims=True), 1e-12)
    size = tuple(images.shape[1:3])
    maps = keras.ops.image.resize(maps[..., None].reshape(-1, *maps.shape[2:], 1), size, "bilinear")
    maps = keras.ops.convert_to_numpy(maps).reshape(len(images), -1, *size, 1)
    shown = keras.ops.convert_to_numpy(to_unit_range(images))[:, None]
    return np.concatenate([shown, shown * (_DARK + (1 - _DARK) * maps)], axis=1)
