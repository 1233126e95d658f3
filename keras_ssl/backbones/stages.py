"""Inner stages of a backbone: what it computes on the way from images to features."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.layers.transformer import TransformerBlock

MOST = 12  # stages at one resolution, such as a transformer's
_ENDS = (keras.layers.Add, TransformerBlock)  # what the blocks of a transformer end with
_FRAMES = (
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
)


def stages(backbone: Backbone) -> dict[str, Backbone]:
    """The backbone cut off after each of its stages, by the name of the last layer, in order.

    A network can be cut where a single tensor carries all that follows: between blocks, not inside
    a residual block. At each resolution the last cut is taken, which gives the stages of a ResNet;
    of a transformer, whose tokens keep their number, up to 12 sums of residual blocks, evenly
    spaced. The last stage is the backbone itself. Weights are shared.

    Args:
        backbone: a `Backbone` around a functional network.

    Returns:
        Backbones by the name of the layer whose output they give.

    Raises:
        ValueError: if the network is one piece, such as a SavedModel, and has no inner stages.
    """
    *inner, last = _chosen(backbone)
    return {**{cut.name: _cut_off(backbone, cut) for cut in inner}, last.name: backbone}


def until(backbone: Backbone, layer: str) -> Backbone:
    """The backbone cut off after the layer of that name, one of `stages`.

    Raises:
        ValueError: if there is no such stage; the message names those there are.
    """
    *inner, last = _chosen(backbone)
    names = [*(cut.name for cut in inner), last.name]
    if layer not in names:
        raise ValueError(
            f"`layer` must be a stage of backbone '{backbone.name}', one of {names}. "
            f"Received: layer={layer!r}."
        )
    return backbone if layer == last.name else _cut_off(backbone, inner[names.index(layer)])


def last_maps(backbone: Backbone, count: int) -> tuple[Callable, list[int]]:
    """Feature maps of the last stages in one pass: what several `stages` give, at the cost of one.

    Args:
        backbone: a `Backbone` around a functional network whose last stages give feature maps.
        count: how many, >= 1; with 1 any backbone that has a map will do.

    Returns:
        Function `(images, training)` of images as the backbone takes them to a list of maps
        `(B, h, w, C)`, that of the last stage last, whose weights are shared; and C of each.

    Raises:
        ValueError: if there are fewer such stages.
    """
    if count == 1:

        def last_map(images, training):
            return [backbone.feature_map(images, training=training)]

        return last_map, [backbone.feature_dim]
    try:
        shapes = {cut.name: cut.shape for cut in _chosen(backbone)[-count:]}
        joint = _joint(backbone.network, list(shapes)) if len(shapes) == count else None
    except ValueError:  # a network of one piece, or a layer that is used twice
        shapes, joint = {}, None
    if joint is None or any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(
            f"Backbone '{backbone.name}' must be a functional network of Keras layers whose last "
            f"{count} stages give feature maps. Received: a network of {len(shapes)} such stages. "
            "Ask for the map of the last one alone."
        )

    def maps(images, training):
        return joint(backbone.prepared(images), training=training)

    return maps, [shape[-1] for shape in shapes.values()]


def _joint(model: keras.Model, names: list[str]) -> keras.Model | None:
    """A model with the outputs of the layers called `names`; None if it has no such layers."""
    layers = {layer.name: layer for layer in model.layers}
    if set(names) <= set(layers):
        return keras.Model(model.inputs, [layers[name].output for name in names])
    inner = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    if len(inner) != 1 or not hasattr(inner[0], "_nodes_by_depth"):
        return None
    within = _joint(inner[0], names)  # such as a foreign network that was adopted
    return within and keras.Model(model.inputs, within(model.inputs))


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A place where one tensor carries all that follows.

    Attributes:
        layer: the layer that makes it.
        shape: of the tensor for the backbone's images, without batch.
        graft: function from the network's input tensor to this tensor, with the same weights.
    """

    layer: Any
    shape: tuple
    graft: Callable

    @property
    def name(self):
        return self.layer.name


def _chosen(backbone: Backbone) -> list[_Cut]:
    cuts = _cuts(backbone.network, backbone.image_shape)
    if len(cuts) < 2:
        raise ValueError(
            f"Backbone '{backbone.name}' must be a functional network of Keras layers to have "
            "inner stages. Received: one of a single piece. Take the run folder or the .keras file "
            "in the place of a SavedModel."
        )
    cuts = [c for c in cuts if not isinstance(c.layer, _FRAMES) and c.shape != backbone.image_shape]
    groups = []  # neighbours of one resolution, the number of channels left aside
    for cut in cuts:
        if groups and groups[-1][-1].shape[:-1] == cut.shape[:-1]:
            groups[-1].append(cut)
        else:
            groups.append([cut])
    taken = [_of_group(group) for group in groups]
    if len(taken) > 1 and len(taken[-1][0].shape) == 1:
        if not any(getattr(cut.layer, "weights", None) for cut in groups[-1]):
            taken[-2].pop()  # pooled as stages are, it is the same as the end
    chosen = [cut for cuts in taken for cut in cuts]
    return chosen


def _of_group(group: list[_Cut]) -> list[_Cut]:
    """The last of a resolution; of tokens also sums of blocks before it."""
    if len(group[0].shape) != 2:
        return group[-1:]
    sums = [cut for cut in group[:-1] if isinstance(cut.layer, _ENDS)]
    count = min(MOST, len(sums))
    places = np.linspace(0, len(sums), count + 1).astype(int)[1:] - 1
    return [*(sums[place] for place in places), group[-1]]


def _cuts(model: keras.Model, shape: tuple) -> list[_Cut]:
    """All cuts of a functional model for inputs of `shape`, those inside nested models included."""
    if not hasattr(model, "_nodes_by_depth"):
        return []
    nodes = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
        if not node.is_input
    ]
    places = {id(t): place for place, node in enumerate(nodes) for t in node.input_tensors}
    ends = dict.fromkeys((id(t) for t in model.outputs), len(nodes))
    needed_until = {**places, **ends}  # the last node that takes each tensor
    single, alive = [], {id(t) for t in model.inputs}
    for place, node in enumerate(nodes):
        alive = {t for t in [*alive, *map(id, node.outputs)] if needed_until.get(t, -1) > place}
        (tensor, *more) = [t for t in node.outputs if id(t) in alive] or [None]
        if tensor is None or more or len(alive) > 1:
            continue
        if len(tensor.shape) in (2, 3, 4) and "float" in tensor.dtype:
            single.append((node, tensor))
    return [
        cut
        for (node, tensor), size in zip(single, _shapes(model, [t for _, t in single], shape))
        for cut in _of_node(model, node, tensor, size, shape)
    ]


def _shapes(model: keras.Model, tensors: list, shape: tuple) -> list[tuple]:
    if not tensors:
        return []
    # By running it: `compute_output_shape` of some functional models fails (Keras 3.15).
    found = keras.Model(model.inputs, tensors)(keras.ops.zeros((1, *shape)))
    return [tuple(each.shape)[1:] for each in ([found] if len(tensors) == 1 else found)]


def _of_node(model: keras.Model, node: Any, tensor: Any, size: tuple, shape: tuple) -> list[_Cut]:
    def onto(end):
        return lambda x: keras.Model(model.inputs, end)(x)

    inner = node.operation
    if not isinstance(inner, keras.Model) or len(node.input_tensors) != 1:
        return [_Cut(inner, size, onto(tensor))]
    before = node.input_tensors[0]
    (taken,) = _shapes(model, [before], shape)
    lead = (lambda x: x) if before is model.inputs[0] else onto(before)
    within = _cuts(inner, taken)
    if not within:
        return [_Cut(inner, size, onto(tensor))]
    return [_Cut(c.layer, c.shape, lambda x, c=c: c.graft(lead(x))) for c in within]


def _cut_off(backbone: Backbone, cut: _Cut) -> Backbone:
    images = keras.Input(backbone.network.inputs[0].shape[1:], name="images")
    whole = backbone.network.compute_output_shape(backbone.input_shape)
    same = backbone.kind == "tokens" and cut.shape[0] == whole[1]  # tokens, class token included
    return adopt(
        keras.Model(images, cut.graft(images), name=f"{backbone.name}_{cut.name}"),
        preprocessing=backbone.preprocessing or "unit",
        image_shape=backbone.image_shape,
        num_prefix_tokens=backbone.num_prefix_tokens if same and len(cut.shape) == 2 else None,
    )
