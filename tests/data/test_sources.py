"""Arrays, `.npz`, user data sets, TFDS and `load`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, views

BYTES = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)
LABELS = np.arange(20) % 4


def ordered(source):
    elements = list(source.ordered().as_numpy_iterator())
    assert [int(e["index"]) for e in elements] == list(range(source.size))
    return np.array([e["image"] for e in elements])


def test_arrays_are_taken_as_they_are():
    for images, dtype in ((BYTES, "uint8"), (FLOATS, "float32"), (FLOATS.astype("f8"), "float32")):
        source = data.from_array(images, LABELS)
        assert (source.size, source.image_shape, source.dtype) == (20, (12, 10, 3), dtype)
        np.testing.assert_allclose(ordered(source), images, rtol=1e-6)
        assert source.labels.dtype == np.int64 and source.random_access
    assert data.from_array(BYTES[..., 0]).image_shape == (12, 10, 1)
    deep = data.from_array(BYTES.astype(np.uint16) * 257)
    np.testing.assert_allclose(ordered(deep), FLOATS, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (FLOATS * 255, None, r"\[0, 1\].* to 255"),
        (FLOATS - 0.5, None, r"\[0, 1\]"),
        (np.where(FLOATS > 0.9, np.nan, FLOATS), None, "NaN"),
        (BYTES.astype(int), None, "uint8"),
        (BYTES[0], None, "shape"),
        (np.zeros((8, 3, 64, 64), np.uint8), None, "channels last"),
        (BYTES[:1], None, "at least 2"),
        (BYTES[:0], None, "at least 2"),
        (BYTES, LABELS[:5], "Labels"),
        (BYTES, LABELS / 2, "Labels"),
    ],
)
def test_bad_arrays_are_named(images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.from_array(images, labels)


def test_subset_and_arrays():
    part = data.from_array(BYTES, LABELS).subset(np.array([7, 3, 11])).subset(np.array([2, 0]))
    np.testing.assert_array_equal(ordered(part), BYTES[[11, 7]])
    assert part.labels.tolist() == [3, 3]
    with pytest.raises(ValueError, match="0 to 1"):
        part.subset(np.array([0, 2]))
    source = data.from_array(BYTES, LABELS)
    images, labels = source.arrays((12, 10))
    np.testing.assert_array_equal(images, BYTES)
    np.testing.assert_array_equal(labels, LABELS)
    chosen, labels = source.arrays((12, 10), limit=6)
    again, _ = source.arrays((12, 10), limit=6)
    np.testing.assert_array_equal(chosen, again)
    for image, label in zip(chosen, labels, strict=True):
        assert label == LABELS[np.flatnonzero((BYTES == image).all((1, 2, 3)))[0]]


def test_evaluation_images_are_resized_and_cropped_in_the_middle():
    image = np.zeros((2, 20, 60, 1), np.uint8)
    image[:, :, 20:40] = 200  # the middle third
    arrays, _ = data.from_array(image).arrays((10, 10))
    assert arrays.shape == (2, 10, 10, 1)
    assert (arrays[0, :, 1:-1] == 200).all()
    floats, _ = data.from_array(image / np.float32(255)).arrays((10, 10))
    np.testing.assert_allclose(floats * 255, arrays, atol=0.6)


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=BYTES, labels=LABELS)
    source = data.load(path)
    np.testing.assert_array_equal(ordered(source), BYTES)
    np.testing.assert_array_equal(source.labels, LABELS)
    np.savez(path, x_train=BYTES, y_train=LABELS[:, None], x_test=BYTES[:4], y_test=LABELS[:4])
    assert data.load(str(path)).labels.tolist() == LABELS.tolist()
    assert data.load(path, split="test").size == 4
    np.savez(path, whatever=FLOATS)
    assert data.load(path).dtype == "float32"
    np.savez(path, a=FLOATS, b=FLOATS)
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        data.load(path)
    path.write_bytes(b"PK no")
    with pytest.raises(ValueError, match="cannot be read"):
        data.load(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda d: d.map(lambda x, y: x),
        lambda d: d,
        lambda d: d.map(lambda x, y: {"image": x, "label": y}),
        lambda d: d.batch(7),
        lambda d: d.map(lambda x, y: x).batch(5, drop_remainder=True),
        lambda d: d.filter(lambda x, y: True),
        lambda d: d.map(lambda x, y: (tf.cast(x, tf.float32) / 255, y)),
    ],
    ids=["images", "pairs", "dicts", "batches", "even batches", "unknown size", "floats"],
)
def test_user_data_sets(make):
    dataset = make(tf.data.Dataset.from_tensor_slices((BYTES, LABELS)))
    source = data.load(dataset)
    assert source.size == 20 and source.image_shape == (12, 10, 3) and not source.random_access
    images = ordered(source)
    assert images.dtype == source.dtype
    np.testing.assert_allclose(images / (255 if source.dtype == "uint8" else 1), FLOATS, atol=1e-6)
    if isinstance(dataset.element_spec, tf.TensorSpec):
        assert source.labels is None
    else:
        np.testing.assert_array_equal(source.labels, LABELS)
    first = [e["index"] for e in source.shuffled(3, 0).as_numpy_iterator()]
    assert sorted(first) == list(range(20))
    assert first == [e["index"] for e in source.shuffled(3, 0).as_numpy_iterator()]
    assert first != [e["index"] for e in source.shuffled(3, 1).as_numpy_iterator()]
    chosen, _ = source.arrays((12, 10), limit=5)
    assert len(chosen) == 5
    with pytest.raises(ValueError, match="random access"):
        source.subset(np.array([0, 1]))


def test_batch_size_of_a_batched_data_set_is_known():
    dataset = tf.data.Dataset.from_tensor_slices(BYTES)
    assert data.load(dataset.batch(5, drop_remainder=True)).batch_size == 5
    assert data.load(dataset).batch_size is None


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(BYTES).repeat(), "infinite"),
        (tf.data.Dataset.from_tensor_slices(BYTES).take(0), "Received: 0"),
        (tf.data.Dataset.from_tensor_slices(BYTES.astype(int)), "uint8"),
        (tf.data.Dataset.from_tensor_slices({"picture": BYTES}), "picture"),
        (tf.data.Dataset.range(5), "height, width"),
    ],
)
def test_bad_data_sets_are_named(dataset, message):
    with pytest.raises(ValueError, match=message):
        data.load(dataset)


@pytest.mark.parametrize(
    "bad", [FLOATS * 255, FLOATS - 0.5, np.where(FLOATS > 0.9, np.nan, FLOATS)]
)
def test_bad_floats_in_a_data_set_stop_the_stream(bad):
    source = data.load(tf.data.Dataset.from_tensor_slices(bad.astype(np.float32)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be finite and lie in \[0, 1\]"):
        list(data.stream(source, views.simclr(8), 10, 0).take(2))


def test_images_of_different_sizes_in_a_data_set():
    def generate():
        for number in range(9):
            yield BYTES[number, : 8 + number // 3]

    spec = tf.TensorSpec((None, 10, 3), tf.uint8)
    source = data.load(tf.data.Dataset.from_generator(generate, output_signature=spec))
    assert source.size == 9 and source.typical_size == (9, 10)
    assert source.image_shape == (None, 10, 3)
    batch = next(iter(data.stream(source, views.simclr(8), 4, 0)))
    assert batch["views"][1].shape == (4, 8, 8, 3)


def test_cifar10_through_tfds(real_data):
    source = data.load("cifar10", split="test", data_dir=real_data / "tfds")
    assert source.size == 10_000 and source.random_access and source.dtype == "uint8"
    assert np.bincount(source.labels).tolist() == [1000] * 10
    assert source.class_names[:2] == ["airplane", "automobile"]
    images, labels = source.arrays((32, 32), limit=500)
    assert images.shape == (500, 32, 32, 3) and 90 < images.mean() < 150
    part = data.from_tfds("cifar10", "train[:100]", real_data / "tfds")
    assert part.size == 100
    with pytest.raises(ValueError, match="no split 'dev'.*'train', 'test'"):
        data.load("cifar10", split="dev", data_dir=real_data / "tfds")


def test_large_tfds_sets_are_read_in_sequence(real_data, monkeypatch):
    whole = data.from_tfds("cifar10", "test[:200]", real_data / "tfds")
    monkeypatch.setattr("keras_ssl.data.tfds_reader._IN_MEMORY", 1000)
    source = data.from_tfds("cifar10", "test[:200]", real_data / "tfds")
    assert not source.random_access and source.image_shape == (32, 32, 3)
    np.testing.assert_array_equal(ordered(source), ordered(whole))
    np.testing.assert_array_equal(source.labels, whole.labels)
    batches = list(data.stream(source, views.simclr(32), 50, 0).take(4).as_numpy_iterator())
    assert sorted(np.concatenate([b["index"] for b in batches])) == list(range(200))


def test_tfds_is_not_downloaded_unasked(tmp_path):
    with pytest.raises(ValueError, match="not prepared .*download=True"):
        data.load("cifar10", data_dir=tmp_path)


def test_what_is_nothing_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"neither a folder.*cifar10"):
        data.load("cifar1O", data_dir=tmp_path)
    with pytest.raises(ValueError, match="neither a folder"):
        data.load(tmp_path / "absent")
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(ValueError, match=".npz"):
        data.load(tmp_path / "image.png")
    with pytest.raises(ValueError, match="Received: int"):
        data.load(3)
    source = data.from_array(BYTES)
    assert data.load(source) is source
