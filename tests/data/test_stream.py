"""The stream: a function of (seed, epoch, index), shared out to workers without loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, views
from keras_ssl.data import seeds

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)


def indexed():
    return data.from_array(IMAGES)


def sequential():
    return data.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES))


SOURCES = [indexed, sequential]
VIEWS = views.TwoViews(
    views.Compose([views.RandomResizedCrop(12), views.ColorJitter(0.4, 0, 0, 0)])
)


def take(source, count, views=VIEWS, batch_size=8, seed=0, **options):
    dataset = data.stream(source, views, batch_size, seed, **options)
    return list(dataset.take(count).as_numpy_iterator())


def same(a, b):
    a, b = keras.tree.flatten(a), keras.tree.flatten(b)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("make", SOURCES)
def test_same_seed_same_batches_whatever_the_global_seed(make):
    tf.random.set_seed(1)
    first = take(make(), 7)
    tf.random.set_seed(2)
    assert same(first, take(make(), 7))
    other = take(make(), 7, seed=1)
    assert not same([b["index"] for b in first], [b["index"] for b in other])
    views_a = dict(zip(first[0]["index"].tolist(), first[0]["views"][0], strict=True))
    shared = [
        (views_a[i], view)
        for b in other
        for i, view in zip(b["index"].tolist(), b["views"][0], strict=True)
        if i in views_a
    ]
    assert shared and not any(np.array_equal(*pair) for pair in shared)


@pytest.mark.parametrize("make", SOURCES)
def test_every_index_once_an_epoch_in_another_order_each_time(make):
    batches = take(make(), 10)
    epochs = [np.concatenate([b["index"] for b in batches[i : i + 5]]) for i in (0, 5)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(40))
        assert not np.array_equal(epoch, np.sort(epoch))
    assert not np.array_equal(*epochs)
    assert batches[0]["views"][0].shape == (8, 12, 12, 3)
    assert batches[0]["index"].dtype == np.int64


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("steps", [None, 12])
def test_a_later_first_epoch_goes_on_bit_for_bit(make, steps):
    whole = take(make(), 3 * (steps or 5), steps_per_epoch=steps)
    late = take(make(), steps or 5, steps_per_epoch=steps, first_epoch=2)
    assert same(whole[-(steps or 5) :], late)


def test_views_of_an_image_change_with_the_epoch():
    views_of = {}
    for epoch, batches in enumerate(np.array_split(np.array(take(indexed(), 10)), 2)):
        for batch in batches:
            for index, view in zip(batch["index"].tolist(), batch["views"][0], strict=True):
                views_of[epoch, index] = view
    assert not any(np.array_equal(views_of[0, i], views_of[1, i]) for i in range(40))


def test_views_do_not_depend_on_the_place_in_the_epoch():
    small, large = take(indexed(), 5), take(indexed(), 2, batch_size=20)
    of_small = {i: v for b in small for i, v in zip(b["index"].tolist(), b["views"][1])}
    for batch in large:
        for index, view in zip(batch["index"].tolist(), batch["views"][1]):
            np.testing.assert_array_equal(view, of_small[index])


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize(("workers", "replicas"), [(2, 1), (2, 2), (1, 4)])
def test_workers_together_see_the_single_workers_batches(make, workers, replicas):
    whole = take(make(), 7)
    parts = [
        take(make(), 7 * replicas, num_workers=workers, worker=w, replicas_per_worker=replicas)
        for w in range(workers)
    ]
    for step, batch in enumerate(whole):
        shares = [b for part in parts for b in part[step * replicas : (step + 1) * replicas]]
        assert all(len(b["index"]) == 8 // (workers * replicas) for b in shares)
        joined = keras.tree.map_structure(lambda *x: np.concatenate(x), *shares)
        assert same(joined, batch)


@pytest.mark.parametrize("make", SOURCES)
def test_long_epochs_begin_again_and_short_ones_stop(make):
    long = np.concatenate([b["index"] for b in take(make(), 8, steps_per_epoch=8)])
    np.testing.assert_array_equal(long[40:], long[:24])
    short = take(make(), 4, steps_per_epoch=2)
    indices = [np.concatenate([b["index"] for b in short[i : i + 2]]) for i in (0, 2)]
    assert len(set(indices[0])) == 16 and not np.array_equal(*indices)


def test_index_names_the_image():
    def plain(image, seed):
        return {"image": image}

    for make in SOURCES:
        for batch in take(make(), 5, views=plain):
            np.testing.assert_array_equal(batch["image"], IMAGES[batch["index"]])


def test_seeds_are_distinct():
    epochs = [seeds.epoch_seed(s, p, e) for s in (0, 1, -1, 2**40) for p in (1, 2) for e in (0, 1)]
    assert len({tuple(seed.numpy()) for seed in epochs}) == len(epochs)
    elements = [seeds.element_seed(epochs[0], tf.constant(i)) for i in range(200)]
    assert len({tuple(seed.numpy()) for seed in elements}) == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 41}, "batch_size=41 and 40 images"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": 3}, "multiple of the 3 replicas .* batch_size=8"),
        ({"num_workers": 2, "replicas_per_worker": 3}, "multiple of the 6"),
        ({"num_workers": 2, "worker": 2}, "`worker`"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"views": views.simclr(17)}, r"\(16, 16\) .* views of \(17, 17\)"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        take(indexed(), 1, **options)


def test_stream_is_traced_once():
    traces = []

    def counting(image, seed):
        traces.append(1)
        return {"image": image}

    take(indexed(), 20, views=counting)
    assert len(traces) <= 2


def labelled(kind):
    numbers = np.arange(40) * 3
    if kind == "array":
        return data.from_array(IMAGES, numbers)
    return data.from_dataset(tf.data.Dataset.from_tensor_slices((IMAGES, numbers)))


@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_labels_go_with_their_images(kind):
    for batch in take(labelled(kind), 7, labels=True):
        np.testing.assert_array_equal(batch["label"], 3 * batch["index"])
    assert "label" not in take(labelled(kind), 1)[0]


@pytest.mark.parametrize("make", SOURCES)
def test_labels_that_are_not_there_are_missed(make):
    with pytest.raises(ValueError, match="trains with labels"):
        data.stream(make(), VIEWS, 8, 0, labels=True)
