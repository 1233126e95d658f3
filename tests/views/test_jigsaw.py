"""Patches of an image: where they are cut, in which order they come, how large they are."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import views
from keras_ssl.views import CenterCrop, Compose, HorizontalFlip, Joined, ShuffledPatches, SingleView


def photo(shape=(12, 12, 3)):
    return np.random.default_rng(0).random(shape).astype("float32")


def plain(grid, patch_size, size=(12, 12), patch=None):
    patches = ShuffledPatches(CenterCrop(size), grid, patch_size, patch)
    return Joined([SingleView(CenterCrop(size)), patches])


def many(pipeline, image, count=300):
    """Views under `count` seeds: arrays `(count, height, width, channels)`."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: pipeline(tf.constant(image), tf.stack([tf.cast(i, tf.int32), 3]))["views"]
    )
    return next(dataset.batch(count).as_numpy_iterator())


def test_patches_as_large_as_cells_are_the_tiles_in_every_order():
    image = photo()
    tiles = [image[y : y + 6, x : x + 6] for y in (0, 6) for x in (0, 6)]
    whole, *patches = many(plain(2, 6), image, 800)
    assert all((view == image).all() for view in whole)
    orders = [
        tuple(next(k for k, tile in enumerate(tiles) if (p[i] == tile).all()) for p in patches)
        for i in range(800)
    ]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(set(orders)) == 24  # expected 33 of each
    counts = np.array([[sum(o[k] == tile for o in orders) for k in range(4)] for tile in range(4)])
    assert abs(counts - 200).max() < 4 * np.sqrt(800 * 3 / 16)


def test_patches_lie_anywhere_in_their_cells_each_by_itself():
    rows, columns = np.meshgrid(np.arange(11), np.arange(13), indexing="ij")
    image = (rows[..., None] * 16 + columns[..., None]).astype("float32") / 256
    _, *patches = many(plain(3, (2, 3), size=(11, 13)), image)
    corners = np.stack([256 * p[:, 0, 0, 0] for p in patches], axis=1).astype(int)
    y, x = corners // 16, corners % 16
    assert patches[0].shape == (300, 2, 3, 1)
    for i, patch in enumerate(patches):  # no pixel of another place
        expected = image[y[0, i] : y[0, i] + 2, x[0, i] : x[0, i] + 3]
        np.testing.assert_array_equal(patch[0], expected)
    cells = np.sort(3 * (y // 3) + x // 4, axis=1)
    np.testing.assert_array_equal(cells, np.tile(np.arange(9), (300, 1)))
    for offsets, room in ((y % 3, 2), (x % 4, 2)):
        shares = [np.mean(offsets == k) for k in range(room)]
        assert sum(shares) == pytest.approx(1) and min(shares) > 0.45
        assert (offsets != offsets[:, :1]).any(axis=1).mean() > 0.9


def test_views_are_a_function_of_the_seed_and_have_static_shapes():
    pipeline, image = views.pirl(16), tf.constant(photo((20, 24, 3)))
    seed = tf.constant([1, 2])
    first, again = (pipeline(image, seed)["views"] for _ in range(2))
    other = pipeline(image, tf.constant([1, 3]))["views"]
    assert [view.shape.as_list() for view in first] == [[16, 16, 3]] + [[6, 6, 3]] * 4
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 1e-3 and 0 <= a.numpy().min() and a.numpy().max() <= 1
    dataset = tf.data.Dataset.from_tensors(image).map(lambda x: pipeline(x, seed)).batch(1)
    assert [spec.shape[1:].rank for spec in dataset.element_spec["views"]] == [3] * 5
    assert all(spec.shape[1:].is_fully_defined() for spec in dataset.element_spec["views"])
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(pipeline)))
    )
    for a, b in zip(first, again(image, seed)["views"]):
        np.testing.assert_array_equal(a, b)


def test_every_patch_is_changed_by_itself():
    image = np.tile(np.linspace(0, 1, 4, dtype="float32")[None, :, None], (4, 1, 1))
    image = np.tile(image[:, :2], (1, 2, 1))
    _, *patches = many(plain(2, 2, (4, 4), Compose([HorizontalFlip()])), image)
    flipped = np.stack([p[:, 0, 0, 0] > p[:, 0, 1, 0] for p in patches])
    assert 0.4 < flipped.mean() < 0.6 and (flipped != flipped[:1]).any(axis=0).mean() > 0.7


@pytest.mark.parametrize(
    "size, grid, whole, patch", [(224, 3, 255, 64), (32, 2, 32, 12), (96, 3, 109, 27)]
)
def test_sizes_of_the_paper_and_ours(size, grid, whole, patch):
    image, patches = views.pirl(size).pipelines
    assert (patches.grid, patches.patch_size) == (grid, (patch,) * 2)
    assert patches.whole.image_size == (whole,) * 2 and patches.whole.ops[0].scale == (0.6, 1.0)
    crop, *colors = image.view.ops
    assert crop.scale == (0.08, 1.0) and crop.image_size == (size,) * 2
    for ops in (colors, patches.patch.ops):
        jitter, *photometric, grey, flip = ops
        assert [op.p for op in photometric] == ([0.66] if size > 64 else [])
        assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.4, 0.4, 0.4)
        assert (jitter.hue, jitter.p, grey.p, flip.p) == (0.2, 1.0, 0.2, 0.5)


def test_a_rotation_is_the_second_view():
    made = views.pirl(8, "rotation")
    assert type(made.second.ops[-1]).__name__ == "QuarterTurns" and made.second.ops[-1].p == 0.75
    assert made.first.ops == made.second.ops[:-1]
    found = made(tf.constant(photo()), tf.constant([1, 2]))["views"]
    assert [view.shape for view in found] == [(8, 8, 3)] * 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: plain(3, 5), r"`patch_size`.*\(5, 5\), grid=3.*\(12, 12\)"),
        (lambda: plain(0, 5), "grid=0"),
        (lambda: plain(2, 0), "patch_size=0"),
        (lambda: views.pirl(32, grid=0), "grid=0"),
        (lambda: views.pirl(32, "colour"), "transform='colour'"),
        (lambda: views.pirl(32, "rotation", grid=2), "grid=2 for a rotation"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_cut_must_be_of_known_size():
    pipeline = ShuffledPatches(HorizontalFlip(), 2, 3)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3))])
    def make(image):
        return pipeline(image, tf.constant([1, 2]))["views"][0]

    with pytest.raises(ValueError, match=r"\(None, None\)"):
        make(tf.constant(photo()))
