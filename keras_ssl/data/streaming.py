"""From a source to batches of views: shuffled, sharded, repeatable."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ssl.data import seeds
from keras_ssl.data.source import Source

_CHUNK = 32  # most images that share a data set of their own


def stream(
    source: Source,
    views: Callable,
    batch_size: int,
    seed: int,
    *,
    first_epoch: int = 0,
    steps_per_epoch: int | None = None,
    num_workers: int = 1,
    worker: int = 0,
    replicas_per_worker: int = 1,
    labels: bool = False,
) -> tf.data.Dataset:
    """Endless batches of views: epoch `first_epoch`, the next, and so on.

    The order of an epoch is a function of (seed, epoch), an image's views a function of (seed,
    epoch, index): a stream started at epoch e equals one that has run through the epochs before.
    Each epoch has exactly `steps_per_epoch` batches and repeats its order if that needs more images
    than there are. An unreadable image is replaced by one chosen at random, so that the shares of
    the workers stay the same.

    Args:
        source: a `Source`.
        views: callable `(image, seed)` -> dict of tensors, such as `keras_ssl.views.simclr(32)`.
        batch_size: images in a global batch.
        seed: whole number.
        first_epoch: epoch to start with.
        steps_per_epoch: batches an epoch; by default `size // batch_size`.
        num_workers: W, processes that share the global batch.
        worker: w; this one gets rows [w * batch_size / W, (w + 1) * batch_size / W).
        replicas_per_worker: R; the worker's rows come as R batches of batch_size / (W * R).
        labels: whether batches hold the images' labels, too; reads those of all images.

    Returns:
        Data set of dicts as `views` makes them, with the batch in front, "index" (int64), and
        "label" (int64) if asked for.

    Raises:
        ValueError: if the batch exceeds the source or cannot be shared evenly, the images are
            smaller than the views, or labels are asked for and there are none.
    """
    check_stream(source, views, batch_size, num_workers, worker, replicas_per_worker, labels)
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise ValueError(f"`steps_per_epoch` must be >= 1. Received: {steps_per_epoch}.")
    steps = steps_per_epoch or source.size // batch_size
    share = batch_size // num_workers
    rows = (worker * share, (worker + 1) * share)
    label_of = _label_table(source) if labels else None
    epoch_elements = _indexed_epoch if source.random_access else _sequential_epoch

    def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
        return epoch_elements(source, seed, epoch, steps, batch_size, rows)

    def views_of(read: Callable) -> Callable:
        def make(index: tf.Tensor, raw: tf.Tensor, epoch_seed: tf.Tensor) -> dict:
            image, actual = read(index, raw, seeds.element_seed(epoch_seed, index))
            label = {} if label_of is None else {"label": tf.gather(label_of, actual)}
            # The seed of the image that came, which need not be the one wanted.
            return {
                **views(image, seeds.element_seed(epoch_seed, actual)),
                "index": actual,
                **label,
            }

        return make

    epochs = tf.data.Dataset.counter(first_epoch, dtype=tf.int64)
    elements = epochs.flat_map(epoch_of)
    rows_at_once = share // replicas_per_worker
    if source.random_access:
        make = views_of(lambda index, raw, _: (source.read(index), index))
    else:
        make = views_of(lambda index, raw, _: (source.decode(raw), index))
    if source.replaces_unreadable:
        replace = views_of(lambda index, raw, image_seed: source.fetch(index, image_seed))
        batches = _batched_in_chunks(elements, rows_at_once, make, replace)
    else:
        # Image by image in parallel but delivered in order, or runs could not repeat.
        made = elements.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batches = made.batch(rows_at_once, drop_remainder=True)
    options = tf.data.Options()
    options.deterministic = True
    # Each worker makes its own rows already; tf.distribute must not divide them again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _batched_in_chunks(elements, rows: int, make: Callable, replace: Callable) -> tf.data.Dataset:
    """Batches of `rows` elements, mapped by `make`, or by `replace` where `make` fails.

    TensorFlow goes on after a failed kernel only within a data set of its own (`ignore_errors`),
    which takes a millisecond to set up, several times what a small image takes to read. So there is
    one for a chunk of images: all of them by `make`; if one fails, the whole chunk by `replace`.
    """
    chunk = max(n for n in range(1, min(rows, _CHUNK) + 1) if rows % n == 0)

    def made(*parts: tf.Tensor) -> dict:
        images = tf.data.Dataset.from_tensor_slices(parts)
        fast, slow = (images.map(f).batch(chunk, drop_remainder=True) for f in (make, replace))
        # Lazy: `slow` is asked only where `fast` has nothing to give.
        either = fast.ignore_errors().concatenate(slow).take(1)
        return either.get_single_element()

    chunks = elements.batch(chunk, drop_remainder=True)
    chunks = chunks.map(made, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if chunk == rows:
        return chunks
    joined = chunks.batch(rows // chunk, drop_remainder=True)
    flat = lambda x: tf.reshape(x, (rows, *x.shape[2:]))  # noqa: E731
    return joined.map(lambda batch: tf.nest.map_structure(flat, batch))


def check_stream(
    source: Source,
    views: Callable,
    batch_size: int,
    num_workers: int = 1,
    worker: int = 0,
    replicas_per_worker: int = 1,
    labels: bool = False,
) -> None:
    """Raise what `stream` raises for these arguments, without building a pipeline."""
    _check_workers(num_workers, worker, replicas_per_worker)
    parts = num_workers * replicas_per_worker
    check_batch_size(batch_size, source.size, source.name, parts)
    _check_size(source, views)
    if labels and not source.has_labels:
        raise ValueError(
            f"The method trains with labels. Received: {source.name}, which has none. Pass "
            "fit(images, labels), a dataset of (image, label) or a folder with one sub-folder a "
            "class."
        )


def check_batch_size(batch_size, size: int, name: str, parts: int = 1, least: int = 1) -> None:
    """Raise unless `batch_size` is valid: every rule of it, for all callers.

    Args:
        batch_size: images in the global batch.
        size: number of images.
        name: of their source.
        parts: replicas that share the batch evenly.
        least: the fewest images that a method can use; 2 where it compares images.
    """
    received = f"Received: batch_size={batch_size!r}"
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool):
        raise ValueError(f"`batch_size` must be an integer. {received}.")
    if batch_size < least:
        why = ": a batch of one has nothing to be compared with" if least == 2 else ""
        raise ValueError(f"`batch_size` must be at least {least}{why}. {received}.")
    if batch_size > size:
        raise ValueError(
            f"`batch_size` must not exceed the number of images. {received} and {size} images in "
            f"{name}. Use a smaller batch_size."
        )
    if batch_size % parts:
        raise ValueError(
            "`batch_size` is the global batch and must be a multiple of the "
            f"{parts} replicas in use. {received}. Use {max(1, batch_size // parts) * parts}, for "
            "instance."
        )


def _indexed_epoch(source, seed, epoch, steps, batch_size, rows) -> tf.data.Dataset:
    """(index, index in the place of a raw image, the epoch's seed) of this worker's rows.

    Images of other workers are never read: the rows are chosen among the indices.
    """
    order = source.order(seed, epoch)
    positions = tf.range(steps * batch_size, dtype=tf.int64) % source.size
    positions = tf.reshape(positions, (steps, batch_size))[:, rows[0] : rows[1]]
    indices = tf.gather(order, tf.reshape(positions, [-1]))
    key = seeds.epoch_seed(seed, seeds.VIEWS, epoch)
    keys = tf.repeat(key[None], tf.size(indices), axis=0)
    return tf.data.Dataset.from_tensor_slices((indices, indices, keys))


def _sequential_epoch(source, seed, epoch, steps, batch_size, rows) -> tf.data.Dataset:
    """(index, raw image, the epoch's seed) of this worker's rows, before decoding."""
    key = seeds.epoch_seed(seed, seeds.VIEWS, epoch)
    elements = source.repeated_raw(seed, epoch).take(steps * batch_size)
    if rows != (0, batch_size):
        elements = elements.enumerate().filter(
            lambda place, _: (place % batch_size >= rows[0]) & (place % batch_size < rows[1])
        )
        elements = elements.map(lambda _, element: element)
    return elements.map(lambda index, raw: (index, raw, key))


def _label_table(source: Source) -> tf.Tensor:
    """The labels (int64) by index."""
    with tf.device("CPU:0"):
        return tf.constant(source.labels, tf.int64)


def _check_workers(num_workers, worker, replicas_per_worker) -> None:
    if min(num_workers, replicas_per_worker) < 1:
        raise ValueError(
            "`num_workers` and `replicas_per_worker` must be positive. "
            f"Received: {num_workers}, {replicas_per_worker}."
        )
    if not 0 <= worker < num_workers:
        raise ValueError(
            f"`worker` must be from 0 to num_workers - 1. Received: worker={worker}, "
            f"num_workers={num_workers}."
        )


def _check_size(source: Source, views: Callable) -> None:
    size = getattr(views, "image_size", None)
    if size is not None and any(own < wanted for own, wanted in zip(source.typical_size, size)):
        raise ValueError(
            f"Images must not be smaller than the views. Received: images of {source.typical_size} "
            f"pixels (height, width; the median where they differ) in {source.name}, views of "
            f"{tuple(size)}. Use views of at most {min(source.typical_size)} pixels, or resize the "
            "images before."
        )
