"""Images: sources, decoding, and the stream of view batches that training takes."""

from keras_ssl.data.arrays import from_array, from_npz
from keras_ssl.data.classes import with_classes_of
from keras_ssl.data.datasets import from_dataset
from keras_ssl.data.drawing import shapes
from keras_ssl.data.errors import unusable_images
from keras_ssl.data.folder import from_folder
from keras_ssl.data.loading import load
from keras_ssl.data.ready import checked_views
from keras_ssl.data.source import Source
from keras_ssl.data.splits import splits
from keras_ssl.data.streaming import check_batch_size, check_stream, stream
from keras_ssl.data.tfds_reader import from_tfds

__all__ = [
    "Source",
    "check_batch_size",
    "check_stream",
    "checked_views",
    "from_array",
    "from_dataset",
    "from_folder",
    "from_npz",
    "from_tfds",
    "load",
    "shapes",
    "splits",
    "stream",
    "unusable_images",
    "with_classes_of",
]
