"""Layer-wise probe: how much of the classes each stage of a network tells."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_ssl.evaluation.features import labelled_features
from keras_ssl.evaluation.linear_probe import LinearProbe, linear_probe


def layer_probe(
    stages: Mapping[str, Callable[[Any], Any]],
    train: Any,
    test: Any,
    seed: int = 0,
    batch_size: int = 256,
    image_size: tuple[int, int] | None = None,
    progress: bool = False,
) -> dict[str, LinearProbe]:
    """A `linear_probe` of each stage of a network, on features averaged over places.

    Features of pretext tasks and generative models are often best before the last block, as the
    last ones serve the task: see the curve before an encoder is cut or exported.

    Args:
        stages: functions from images (B, H, W, C) to features (B, D) by name, such as
            `backbones.stages(encoder)`.
        train: (images, labels), or a `data.Source` with labels.
        test: the same, for the accuracies.
        seed: as in `linear_probe`.
        batch_size: images per call.
        image_size: (height, width), needed for sources whose images differ in size.
        progress: whether a bar is shown for each stage, where `train` and `test` are sources.

    Returns:
        a `LinearProbe` for each stage, in the order of `stages`.

    Raises:
        ValueError: as `linear_probe`.
    """
    results = {}
    for name, stage in stages.items():
        bar = name if progress else None
        bank = labelled_features(stage, train, batch_size, image_size, progress=bar)
        queries = labelled_features(
            stage, test, batch_size, image_size, "test", train, progress=bar
        )
        results[name] = linear_probe(_same, bank, queries, seed=seed)
    return results


def _same(features: np.ndarray) -> np.ndarray:
    return features
