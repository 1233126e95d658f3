"""What methods share that cluster all images between epochs (DeepCluster, DeepClusterV2)."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

_IN_MEMORY = 2**32  # bytes of features; more lie in a temporary file


def of_all_images(
    function: Callable, source: Any, image_size: Sequence[int], what: str
) -> tuple[np.ndarray, np.ndarray]:
    """What `function` gives for each image of a source, in the order of the images' index.

    All batches have one size: a smaller last one is filled up with images of the one before. More
    than 4 GB of results lie in a temporary file, which goes with the array. A terminal shows a bar
    after some seconds.

    Args:
        function: images `(n, height, width, channels)` of the source's dtype -> `(n, width)`.
        source: `keras_ssl.data.Source`.
        image_size: (height, width) that images are brought to.
        what: what the bar is called.

    Returns:
        float32 `(n, width)`, and the index of each, `(n,)`: of all images but unreadable ones.
    """
    results, places, before = None, [], None
    bar = tqdm(total=source.size, desc=what, unit="img", leave=False, delay=3, disable=None)
    with bar:
        done = 0
        for images, index in source.batches(tuple(image_size)):
            new = len(images)
            if before is not None and new < len(before):
                images = np.concatenate([before, images])[-len(before) :]
            found = ops.convert_to_numpy(function(images))[-new:]
            if results is None:
                results = _array((source.size, found.shape[1]))
            results[done : done + new] = found
            places.append(index)
            before, done = images, done + new
            bar.update(new)
    return results[:done], np.concatenate(places)


def state_of(model: keras.Model, name: str, shape: Sequence[int], dtype: str, value: Any) -> Any:
    """A variable of the model that `begin_epoch` alone writes to, `value` everywhere at first."""
    start = keras.initializers.Constant(value)
    return model.add_weight(shape=shape, dtype=dtype, initializer=start, trainable=False, name=name)


def seed_of(model: keras.Model, *more: int) -> list[int]:
    """Seed of the draws before an epoch: a function of the run's seed, the step, and `more`."""
    return [int(ops.convert_to_numpy(n)) for n in (model.run_seed, model.step)] + list(more)


def number_for(wanted: int, num_images: int) -> int:
    """A default number of clusters: `wanted`, but at most one for ten images."""
    return max(2, min(wanted, num_images // 10))


def check_numbers(model: keras.Model, **least: int) -> None:
    """Raise unless each attribute so named has its least value, with no more clusters than images.

    Args:
        model: with `num_images`.
        **least: the smallest value allowed, by name; the first is that of the number of clusters.
    """
    for name, low in {"num_images": 2, **least}.items():
        if not getattr(model, name) >= low:
            raise ValueError(f"`{name}` must be >= {low}. Received: {name}={getattr(model, name)}.")
    name = next(iter(least))
    if getattr(model, name) > model.num_images:
        raise ValueError(
            f"`{name}` must not exceed the number of images. Received: {name}="
            f"{getattr(model, name)} and num_images={model.num_images}. Ask for fewer clusters."
        )


def _array(shape: tuple[int, int]) -> np.ndarray:
    """An empty float32 array, in memory or, if it is large, in a temporary file without a name."""
    if 4 * shape[0] * shape[1] <= _IN_MEMORY:
        return np.empty(shape, "float32")
    with tempfile.TemporaryFile() as file:  # which the mapping keeps after it is closed
        return np.memmap(file, dtype="float32", mode="w+", shape=shape)
