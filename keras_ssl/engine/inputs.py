"""From the images a user passes to `fit` to batches; all defaults and checks of a batch."""

import contextlib
import dataclasses
import os
from typing import Any

import keras
from keras import ops

from keras_ssl import data, distribute
from keras_ssl.engine import optimizer
from keras_ssl.layers.queue import Queue

DEFAULT_BATCH = 256
_OWN_BATCHES = (
    "To make ready batches yourself: dataset = keras_ssl.data.stream(keras_ssl.data.load(images), "
    "model.default_views((height, width)), batch_size, seed=0)."
)


@dataclasses.dataclass(frozen=True)
class Batches:
    """What `fit` iterates over.

    Attributes:
        dataset: endless view batches, distributed where there are several replicas; or the user's
            ready batches.
        source: the images behind it; None for ready batches.
        batch_size: images in the global batch.
        steps: batches an epoch; None where unknown.
    """

    dataset: Any
    source: Any
    batch_size: int
    steps: int | None


def prepare(model, x, labels, batch_size, views, seed, first_epoch=0, steps=None, epochs=None):
    """The `Batches` of `x`; arguments as `SSLModel.fit`.

    Plain images get views, and their labels if the method reads them. Ready batches pass through,
    with batch size and steps as far as the dataset tells them.
    """
    if _is_ready(x):
        return _ready(model, x, steps)
    source = _source(model, x, labels, seed)
    batch_size = batch_size_for(source, batch_size, model.short_run, epochs)
    views = views or model.default_views(model.image_shape[:2])
    check(model, source, views, batch_size)

    def stream(workers, worker, replicas):
        return data.stream(
            source,
            views,
            batch_size,
            seed,
            first_epoch=first_epoch,
            steps_per_epoch=steps,
            num_workers=workers,
            worker=worker,
            replicas_per_worker=replicas,
            labels=_reads_labels(model),
        )

    with optimizer.scope(model):
        dataset = distribute.per_worker_dataset(stream, optimizer.strategy(model))
    return Batches(dataset, source, batch_size, steps or source.size // batch_size)


def held_out(model, validation_data, batch_size, views, seed):
    """The `Batches` of `fit`'s `validation_data`: always the same views, batches as in training.

    Fewer images than a batch make one smaller batch.
    """
    x, y, _ = keras.utils.unpack_x_y_sample_weight(validation_data)
    if _is_ready(x):
        return prepare(model, x, y, batch_size, views, seed)
    source = _source(model, x, y, seed)
    # At most all held-out images, in a multiple of the replicas that share them.
    parts = _devices(model)
    batch_size = min(batch_size, source.size // parts * parts)
    return prepare(model, source, None, batch_size, views, seed)


@contextlib.contextmanager
def plain_errors():
    """Turn what unusable images cause inside a graph into a plain ValueError."""
    try:
        yield
    except Exception as error:
        message = data.unusable_images(error)
        if message:
            raise ValueError(message) from error
        raise


def batch_size_for(source, batch_size=None, short_run=None, epochs=None):
    """The global batch: `batch_size`, or that of a batched dataset, or 256 at most.

    In the place of 256 it is what a method's `short_run` asks for, if it asks, and if a run of
    `epochs` with such batches is short.
    """
    if batch_size is not None:
        return batch_size
    usual = DEFAULT_BATCH
    if short_run is not None and short_run.batch_size and epochs is not None:
        own = min(short_run.batch_size, source.size)
        if epochs * (source.size // own) < short_run.below:
            usual = own
    return source.batch_size or min(usual, source.size)


def check(model, source, views, batch_size):
    """Raise where a method cannot train on these images in batches of this size."""
    name = type(model).__name__
    data.check_batch_size(
        batch_size,
        source.size,
        source.name,
        parts=_devices(model),
        least=2,
    )
    wanted, given = model.image_shape[2], source.image_shape[2]
    if wanted != given:
        raise ValueError(
            f"The backbone takes images with {wanted} channels. Received: images with {given}. "
            f"Make the backbone with input_shape=(height, width, {given}), or convert the images."
        )
    data.check_stream(source, views, batch_size, labels=_reads_labels(model))
    if model.num_images not in (None, source.size):
        raise ValueError(
            f"{name} keeps a row for each training image: `num_images` must be the number of "
            f"images. Received: num_images={model.num_images} and {source.size} images in "
            f"{source.name}. Make the method with num_images={source.size}; held-out images have "
            "no row, so their loss is not defined."
        )
    _check_labels(model, source)


def _check_labels(model, source):
    """Raise where a method with a classifier has no class for a label."""
    if model.num_classes is None:
        return
    least, most = int(source.labels.min()), int(source.labels.max())
    if least < -1 or most >= model.num_classes:
        raise ValueError(
            f"Labels of {type(model).__name__} must be from 0 to {model.num_classes - 1}, as its "
            f"classifier has {model.num_classes} outputs, or -1 for images without one. Received: "
            f"labels from {least} to {most} in {source.name}. Number the classes from 0, or make "
            "the method with another classifier."
        )


def cut_queues(model, num_images, say):
    """Make queues that are larger than the data as large as these, before their first use.

    A larger queue would hold images more than once, and be full late, or never in a short run.

    Args:
        model: an `SSLModel`; the size of its queues, if it has any, is its `queue_size`.
        num_images: of the training data.
        say: called with a sentence where a queue is cut.
    """
    queues = [layer for layer in model._flatten_layers() if isinstance(layer, Queue)]
    larger = [q for q in queues if q.size > num_images and not int(ops.convert_to_numpy(q.count))]
    if not larger:
        return
    with optimizer.scope(model):
        for queue in larger:
            queue.shrink(num_images)
    say(
        f"{type(model).__name__}: queue of {num_images} in the place of {model.queue_size} "
        "embeddings, as there are no more images."
    )
    model.queue_size = num_images
    model.test_function = None  # it may have read the old queue


def _source(model, x, labels, seed):
    """The images as a `Source`."""
    if x is None or isinstance(x, dict):
        raise ValueError(_needs(model, f"Received: {type(x).__name__}."))
    if _reads_labels(model) and labels is not None:
        return data.from_array(x, labels)
    named = isinstance(x, str | os.PathLike)
    return data.load(x, seed=seed, image_size=model.image_shape[:2] if named else None)


def _devices(model):
    with optimizer.scope(model):
        return distribute.parallel_devices()


def _reads_labels(model):
    return "label" in model.batch_keys


def _is_ready(x):
    """Whether `x` yields batches that views already made: dicts without an "image"."""
    spec = getattr(x, "element_spec", None)
    return isinstance(spec, dict) and "image" not in spec


def _ready(model, x, steps):
    missing = [key for key in model.batch_keys if key not in x.element_spec]
    if missing:
        received = ", ".join(repr(key) for key in x.element_spec)
        raise ValueError(
            _needs(model, f"Received batches with the keys {received}; missing: {missing}.")
        )
    shapes = [spec.shape for spec in keras.tree.flatten(x.element_spec) if hasattr(spec, "shape")]
    sizes = [shape[0] for shape in shapes if shape.rank]
    if 1 in sizes:
        raise ValueError(
            f"{type(model).__name__} needs at least 2 images a batch, as a single one has nothing "
            "to be compared with. Received: ready batches of one. Use a larger batch size."
        )
    if hasattr(x, "map"):  # a distributed dataset cannot be looked into
        x = data.checked_views(x, type(model).__name__)
    # A finite dataset is repeated, as ours is: Keras then counts the steps and never runs out.
    if steps is None and hasattr(x, "cardinality"):
        cardinality = int(x.cardinality())  # negative where unknown or infinite
        if cardinality > 0:
            steps, x = cardinality, x.repeat()
    return Batches(x, None, (sizes or [None])[0] or DEFAULT_BATCH, steps)


def check_batch(model, batch):
    """Raise unless `batch` is a ready batch."""
    if not isinstance(batch, dict) or not set(model.batch_keys) <= set(batch):
        received = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(
            f"A batch of {type(model).__name__} is a dict with the keys {list(model.batch_keys)}. "
            f"Received: {received}. {_OWN_BATCHES}"
        )


def _needs(model, received):
    return (
        f"{type(model).__name__} trains on images (an array, a tf.data.Dataset of images or of "
        "(image, label), a folder's path, a data set's name) or on ready batches, dicts with "
        f"the keys {list(model.batch_keys)}. {received} {_OWN_BATCHES}"
    )
