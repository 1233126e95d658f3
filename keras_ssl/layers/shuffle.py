"""Shuffled batch normalisation: keys whose statistics tell nothing about their queries."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import distribute
from keras_ssl.layers import norm
from keras_ssl.ops import draws

_MOST = 8  # groups: the authors' GPUs
_LEAST = 8  # images of a group, where possible: statistics of fewer are noise


def shuffled(encode: Callable[[Any], Any], images: Any, groups: int, key: Any) -> Any:
    """`encode(images)` with batch statistics of groups of the global batch in another order.

    He et al. 2020 (MoCo), https://arxiv.org/abs/1911.05722, section 3.3. The groups play the
    authors' GPUs: the result is the same on one device and on several, which divide the groups
    among them. With one group nothing is shuffled.

    Args:
        encode: networks with this library's batch normalisation, `(n, ...)` -> `(n, width)`.
        images: `(n, ...)`, of this replica.
        groups: groups of the global batch, which divide it; see `group_count`.
        key: scalar integer that decides the order; see `ops.draws.draw_key`.

    Returns:
        float32 `(global n, width)` in the images' order, the same on all replicas.
    """
    if groups > 1:
        order = draws.permutation(key, images.shape[0] * distribute.num_replicas())
        images = ops.take(distribute.all_gather(images), order, axis=0)
        images = distribute.local_rows(images)
    # Images travel, not features: a replica normalises the images of its own groups.
    with norm.grouped(groups):
        encoded = encode(images)
    encoded = distribute.all_gather(ops.cast(encoded, "float32"))
    return ops.take(encoded, ops.argsort(order), axis=0) if groups > 1 else encoded


def group_count(batch_size: int, groups: int | None) -> int:
    """Number of groups of a global batch: a function of its size, not of the replicas.

    Args:
        batch_size: images in the global batch.
        groups: the most groups that the user wants; None for the default: at most 8 groups of at
            least 8 images each, or for a small batch the fewest groups, at least two.

    Returns:
        A divisor of `batch_size` that leaves at least 2 images in a group. If only 1 is possible
        although more were wanted, nothing is shuffled, and there is a warning.
    """
    most = _MOST if groups is None else groups
    counts = [n for n in range(1, most + 1) if batch_size % n == 0 and batch_size // n >= 2]
    large = [n for n in counts if groups is not None or batch_size // n >= _LEAST]
    count = max(large, default=1)
    if count == 1 and len(counts) > 1:
        count = counts[1]  # the fewest groups, which are the largest
    if count == 1 and most > 1:
        warnings.warn(
            f"Keys are not shuffled: no number of groups from 2 to {most} divides a batch of "
            f"{batch_size} images into groups of at least 2, so a query and its key share "
            "statistics, which can give the answer away. Use a batch size that is a multiple of 8.",
            stacklevel=2,
        )
    return count


def allowed_groups(networks: Sequence[keras.Model], groups: int | None) -> int | None:
    """`groups`, or 1 if a network cannot normalise by groups.

    Args:
        networks: the networks that normalise by groups.
        groups: what the user asks for; None for the default.

    Raises:
        ValueError: if `groups` is not positive, or groups are asked for and a network has batch
            normalisation that is not this library's. Without being asked there is a warning.
    """
    if groups is not None and groups < 1:
        raise ValueError(f"`groups` must be >= 1, or None. Received: groups={groups}.")
    foreign = [
        layer.name
        for network in networks
        for layer in network._flatten_layers()
        if norm.is_foreign(layer)
    ]
    if not foreign:
        return groups
    what = (
        f"'{foreign[0]}' is not this library's batch normalisation and cannot be shuffled: a "
        "query and its key share statistics, which can give the answer away. Build the network "
        "with keras_ssl.layers.batch_norm."
    )
    if groups not in (None, 1):
        raise ValueError(f"`groups` must be 1 here. Received: groups={groups}. {what}")
    if groups is None:
        warnings.warn(what, stacklevel=4)
    return 1
