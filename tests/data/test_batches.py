"""`Source.batches`: all images a batch at a time, the same that `arrays` gives at once."""

import types

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_ssl import data

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 12, 10, 3), np.uint8)


def folder(path):
    for number, image in enumerate(IMAGES):
        PIL.Image.fromarray(image).save(path / f"{number:02d}.png")
    return data.from_folder(path, max_corrupt_fraction=0.5)


SOURCES = {
    "folder": folder,
    "array": lambda path: data.from_array(IMAGES),
    "floats": lambda path: data.from_array(IMAGES.astype(np.float32) / 255),
    "tf.data": lambda path: data.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES)),
    "batched": lambda path: data.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES).batch(5)),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("size", [(12, 10), (6, 6)])
def test_they_are_the_arrays_in_parts(make, size, tmp_path):
    source = make(tmp_path)
    batches = source.batches(size, batch_size=4)
    assert isinstance(batches, types.GeneratorType)
    parts, indices = zip(*batches, strict=True)
    assert [len(part) for part in parts] == [4, 4, 3] == [len(part) for part in indices]
    assert all(part.dtype == source.dtype for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), source.arrays(size)[0])
    np.testing.assert_array_equal(np.concatenate(indices), np.arange(11))


def test_unreadable_files_are_left_out_and_the_others_keep_their_index(tmp_path):
    source = folder(tmp_path)
    for number in (3, 7):
        (tmp_path / f"{number:02d}.png").write_bytes(b"damaged")
    parts, indices = zip(*source.batches((12, 10), batch_size=4), strict=True)
    indices = np.concatenate(indices)
    assert indices.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    np.testing.assert_array_equal(np.concatenate(parts), IMAGES[indices])


def test_a_subset_counts_from_zero():
    source = data.from_array(IMAGES).subset(np.array([8, 2, 5]))
    ((images, indices),) = source.batches((12, 10))
    np.testing.assert_array_equal(images, IMAGES[[8, 2, 5]])
    assert indices.tolist() == [0, 1, 2]
