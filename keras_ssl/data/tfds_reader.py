"""Source from a data set of TensorFlow Datasets."""

import os
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from keras_ssl.data.arrays import from_array
from keras_ssl.data.sequential import SequentialSource
from keras_ssl.data.source import Source
from keras_ssl.ops.names import near

_IN_MEMORY = 2 * 2**30  # bytes; a data set up to this size is decoded into memory at once
_BATCH = 256
_SAMPLE = 64


def from_tfds(
    name: str,
    split: str | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Source:
    """Source from a TFDS data set that holds images.

    Up to 2 GiB of images of one size are decoded at once and give random access; others are read in
    sequence and shuffled in a buffer.

    Args:
        name: as `tfds.load` takes it, such as "cifar10" or "name/config:version".
        split: such as "train" or "train[:10%]"; by default "train", or else the first there is.
        data_dir: where TFDS keeps its data; by default its own place.
        download: whether to download and prepare what is not there yet.

    Raises:
        ValueError: if there is no such data set or split, it is not there and `download` is
            False, or it holds no images.
    """
    builder = _builder(name, data_dir, download)
    splits = list(builder.info.splits)
    split = split or ("train" if "train" in splits else splits[0])
    try:
        size = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{name} has no split {split!r}. Splits: {splits}, and parts such as 'train[:10%]'."
        ) from error
    image_key, label_key, class_names = _features(builder.info.features, name)
    feature = builder.info.features[image_key]
    raw = _raw(builder, split, image_key, label_key)
    description = {"name": f"{name}[{split}]", "class_names": class_names}
    shape, dtype = feature.shape, tf.as_dtype(feature.np_dtype)
    if None not in shape and np.prod(shape) * size * dtype.size <= _IN_MEMORY:
        return _in_memory(raw, feature, size, **description)
    return _in_sequence(raw, feature, size, has_labels=label_key is not None, **description)


def near_names(name: str) -> str:
    """The end of an error about an unknown name: TFDS data sets that look like `name`."""
    import tensorflow_datasets as tfds

    names = tfds.list_builders(with_community_datasets=False)
    return near(name.split("/")[0].split(":")[0], names, list_all=False)


def is_known(name: str, data_dir: str | os.PathLike | None) -> bool:
    """Whether `name` is a data set of TFDS, or one prepared in `data_dir`."""
    import tensorflow_datasets as tfds

    base = name.split("/")[0].split(":")[0]
    if data_dir is not None and base and os.path.isdir(os.path.join(data_dir, base)):
        return True
    return base in tfds.list_builders(with_community_datasets=False)


def _builder(name: str, data_dir: str | os.PathLike | None, download: bool) -> Any:
    import tensorflow_datasets as tfds

    data_dir = None if data_dir is None else os.fspath(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no data set {name!r}.{near_names(name)}") from error
    if not builder.info.splits and download:
        builder.download_and_prepare()
    if not builder.info.splits:
        raise ValueError(
            f"{name} is not prepared in {builder.data_dir}. Pass data_dir=... where it is, or "
            "download=True to download and prepare it."
        )
    return builder


def _features(features: Any, name: str) -> tuple[str, str | None, list[str] | None]:
    """Keys of the image and of the label, and the classes' names."""
    import tensorflow_datasets as tfds

    kinds = dict(features.items()) if hasattr(features, "items") else {}
    images = [key for key, kind in kinds.items() if type(kind) is tfds.features.Image]
    if not images:
        raise ValueError(f"{name} holds no images. Received the features {sorted(kinds)}.")
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    label = "label" if "label" in labels else (labels[0] if len(labels) == 1 else None)
    image = "image" if "image" in images else images[0]
    return image, label, None if label is None else kinds[label].names


def _raw(builder: Any, split: str, image_key: str, label_key: str | None) -> tf.data.Dataset:
    """`{"image": encoded, "label"}` in TFDS' order."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )

    def pick(example: dict) -> dict:
        picked = {"image": example[image_key]}
        return picked if label_key is None else {**picked, "label": example[label_key]}

    return dataset.map(pick)


def _in_memory(
    raw: tf.data.Dataset, feature: Any, size: int, name: str, class_names: list[str] | None
) -> Source:
    decoded = raw.map(
        lambda example: {**example, "image": feature.decode_example(example["image"])},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    images = np.empty((size, *feature.shape), feature.np_dtype)
    labels, start = [], 0
    logging.info("Decoding the %d images of %s into memory.", size, name)
    for batch in decoded.batch(_BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        images[start : start + len(batch["image"])] = batch["image"]
        start += len(batch["image"])
        labels.append(batch.get("label"))
    known = np.concatenate(labels) if labels and labels[0] is not None else None
    source = from_array(images, known, name=name)
    source.class_names = class_names
    return source


def _in_sequence(
    raw: tf.data.Dataset, feature: Any, size: int, has_labels: bool, name: str, class_names
) -> SequentialSource:
    images = raw.map(lambda example: example["image"])
    channels = feature.shape[-1] or 3
    deep = feature.np_dtype != np.uint8

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        image = feature.decode_example(encoded)
        image.set_shape((*feature.shape[:2], channels))
        return tf.image.convert_image_dtype(image, tf.float32) if deep else image

    def read_labels(count: int) -> np.ndarray:
        labels = raw.map(lambda example: example["label"]).take(count).batch(_BATCH)
        return np.concatenate(list(labels.as_numpy_iterator())).astype(np.int64)

    shapes = [tf.shape(decode(image))[:2].numpy() for image in images.take(_SAMPLE)]
    height, width = np.median(shapes, axis=0)
    return SequentialSource(
        images,
        decode,
        size,
        read_labels=read_labels if has_labels else None,
        name=name,
        image_shape=(*feature.shape[:2], channels),
        typical_size=(int(height), int(width)),
        dtype="float32" if deep else "uint8",
        class_names=class_names,
    )


def split_names(name: str, data_dir: str | os.PathLike | None, download: bool) -> list[str]:
    """Names of the splits of a data set."""
    return list(_builder(name, data_dir, download).info.splits)
