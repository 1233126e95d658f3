"""What SwAV computes, and which of its state changes when."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from ops.test_sinkhorn import plain_sinkhorn
from toys import images, tiny_backbone

from keras_ssl import SwAV, data, losses, optimizers, views


def swav(**options):
    options = {"num_prototypes": 12, "temperature": 0.1, "freeze_epochs": 0, **options}
    return SwAV(tiny_backbone(), **options)


def batch_of(n=10, large=2, small=2, seed=0):
    """Ready batch of random views of 8 and 4 pixels."""
    sizes = [8] * large + [4] * small
    made = [images(n, (s, s, 3), seed + i, "float32") for i, s in enumerate(sizes)]
    return {"views": tuple(map(ops.convert_to_tensor, made))}


def loss_of(model, batch, training=False):
    return float(model.compute_losses(batch, training)["loss"])


def embeddings(model, batch):
    return [np.array(model.embed(view), "float64") for view in batch["views"]]


def the_equation(z, prototypes, codes, temperature):
    """The paper's loss, pair by pair, in float64."""
    total = 0.0
    for v in (0, 1):
        for u in range(len(z)):
            if u != v:
                s = z[u] @ prototypes.T / temperature
                log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
                total -= (codes[v] * log_p).sum(1).mean() / (len(z) - 1)
    return total / 2


@pytest.mark.parametrize("small", [0, 1, 3])
def test_loss_is_the_papers_for_any_number_of_views(small):
    model, batch = swav(temperature=0.3, epsilon=0.2, iterations=2), batch_of(small=small)
    z, prototypes = embeddings(model, batch), np.array(model.prototypes, "float64")
    codes = [plain_sinkhorn(z[v] @ prototypes.T, 0.2, 2) for v in (0, 1)]
    expected = the_equation(z, prototypes, codes, 0.3)
    assert loss_of(model, batch) == pytest.approx(expected, rel=1e-4)


def test_two_views_give_the_swapped_prediction():
    model, batch = swav(), batch_of(small=0)
    columns = ops.transpose(model.prototypes)
    scores = [ops.matmul(model.embed(view), columns) for view in batch["views"]]
    expected = losses.swapped_prediction(*scores)
    assert loss_of(model, batch) == pytest.approx(float(expected), rel=1e-5)


def test_an_image_is_assigned_to_the_nearest_prototype():
    model, (view, *_) = swav(), batch_of()["views"]
    z, prototypes = np.array(model.embed(view)), np.array(model.prototypes)
    distances = np.square(z[:, None] - prototypes[None]).sum(-1)
    np.testing.assert_array_equal(model.assign(view), distances.argmin(1))


def test_prototypes_that_scores_do_not_tell_apart_cost_log_k():
    model = swav()
    model.prototypes.assign(np.tile(np.eye(1, 128), (12, 1)))
    found = model.compute_losses(batch_of(), training=True)
    assert float(found["loss"]) == pytest.approx(math.log(12), rel=1e-5)
    assert float(found["prototype_entropy"]) == pytest.approx(1, abs=1e-5)


def test_entropy_shows_that_one_prototype_takes_all():
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(128)])
    head.layers[-1].set_weights([np.zeros((8, 128)), np.eye(1, 128)[0]])
    model = swav(projector=head)
    model.prototypes.assign(np.eye(12, 128))
    collapsed = model.compute_losses(batch_of(), training=True)
    assert float(collapsed["prototype_entropy"]) < 0.01 and float(collapsed["loss"]) > math.log(12)


def test_the_order_of_images_and_of_small_views_does_not_count():
    model, batch = swav(), batch_of(small=3)
    value = loss_of(model, batch)
    order = np.random.default_rng(0).permutation(10)
    a, b, *small = batch["views"]
    shuffled = {"views": tuple(ops.take(view, order, axis=0) for view in batch["views"])}
    assert loss_of(model, shuffled) == pytest.approx(value, rel=1e-5)
    assert loss_of(model, {"views": (b, a, *small[::-1])}) == pytest.approx(value, rel=1e-5)
    assert loss_of(model, {"views": (a, small[0], b, *small[1:])}) != pytest.approx(value, rel=1e-4)


# networks


def counted(layer):
    calls, call = [], layer.call

    def counting(inputs, **kwargs):
        calls.append(tuple(inputs.shape))
        return call(inputs, **kwargs)

    layer.call = counting
    return calls


def test_one_backbone_call_for_each_resolution_and_one_of_the_projector():
    model = swav()
    calls, heads = counted(model.backbone.network), counted(model.projector)
    model.compute_losses(batch_of(5, large=2, small=3), training=True)
    assert calls == [(10, 8, 8, 3), (15, 4, 4, 3)] and heads == [(25, 8)]


def test_views_keep_their_place_in_whatever_order_the_sizes_come():
    model = swav()
    a, b, c, d = batch_of()["views"]
    together = model._project((c, a, d, b), training=False)
    for view, z in zip((c, a, d, b), together):
        np.testing.assert_allclose(z, model.embed(view), atol=1e-5)


def test_embeddings_have_unit_length():
    np.testing.assert_allclose(np.linalg.norm(swav().embed(images(4)), axis=1), 1, atol=1e-5)


# prototypes


def dataset(steps=4, batch=10):
    batches = [batch_of(batch, seed=10 * i) for i in range(steps)]
    stacked = tf.nest.map_structure(lambda *x: tf.concat(x, 0), *batches)
    return tf.data.Dataset.from_tensor_slices(stacked).batch(batch, drop_remainder=True)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "L2": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "LARC": lambda: optimizers.LARC(10.0, weight_decay=0.01),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_prototypes_stay_for_the_frozen_steps_and_move_after_them(optimizer):
    model = swav(freeze_epochs=1)
    model.compile(optimizer())
    first, kernel = np.array(model.prototypes), np.array(model.projector.weights[0])
    model.fit(dataset(4), verbose=0)
    assert int(model.step) == 4
    np.testing.assert_allclose(model.prototypes, first, atol=1e-6)
    assert np.abs(np.array(model.projector.weights[0]) - kernel).max() > 1e-4
    model.fit(dataset(1), verbose=0)
    assert np.abs(np.array(model.prototypes) - first).max() > 1e-5
    np.testing.assert_allclose(np.linalg.norm(model.prototypes, axis=1), 1, atol=1e-6)


def test_frozen_steps_leave_no_momentum_behind():
    model = swav(freeze_epochs=1)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(dataset(4), verbose=0)
    slots = [v for v in model.optimizer.variables if "prototypes" in v.path]
    assert len(slots) == 1 and not np.array(slots[0]).any()


def test_prototypes_have_unit_length_at_first_and_after_every_step():
    model = swav()
    np.testing.assert_allclose(np.linalg.norm(model.prototypes, axis=1), 1, atol=1e-6)
    model.compile(keras.optimizers.SGD(5.0))
    rows = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rows.append(np.array(model.prototypes))
    )
    before = np.array(model.prototypes)
    model.fit(dataset(), verbose=0, callbacks=[watch])
    assert len(rows) == 4 and np.abs(rows[-1] - before).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-6)


def gradients(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=False)["loss"]
    return tape.gradient(loss, [v.value for v in (*model.projector.weights, model.prototypes)])


def test_freezing_drops_the_gradient_of_the_prototypes_alone():
    model, batch = swav(freeze_epochs=1), batch_of()
    model.steps_per_epoch.assign(1)
    *frozen, none = gradients(model, batch)
    model.freeze_epochs = 0
    *free, some = gradients(model, batch)
    assert not np.any(none) and np.abs(some).max() > 1e-4
    for a, b in zip(frozen, free):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-6)


# queue


def test_queue_is_used_once_it_is_full_and_filled_after_use():
    model, sizes = swav(queue_size=20, queue_start=0, epsilon=0.005), []
    prototypes = np.array(model.prototypes, "float64")
    batches = [batch_of(10, seed=10 * i) for i in range(4)]
    for i, batch in enumerate(batches):
        expected = {}
        for memory in (0, 2):  # batches whose embeddings stand beside the batch's own
            z, codes = embeddings(model, batch), []
            for v in (0, 1):
                earlier = [embeddings(model, b)[v] for b in batches[max(0, i - memory) : i]]
                scores = np.concatenate([*earlier, z[v]]) @ prototypes.T
                codes.append(plain_sinkhorn(scores, 0.005, 3)[-10:])
            expected[memory] = the_equation(z, prototypes, codes, 0.1)
        used, unused = (2, 0) if i >= 2 else (0, 2)
        assert loss_of(model, batch) == pytest.approx(expected[used], rel=1e-4)
        if i > 0:
            assert expected[used] != pytest.approx(expected[unused], rel=1e-3)
        _enqueue(model, batch)
        sizes.append([int(queue.count) for queue in model.queues])
    assert sizes == [[10, 10], [20, 20], [20, 20], [20, 20]]


def _enqueue(model, batch):
    """Let the batch enter the queues, with embeddings in inference mode."""
    for v, queue in enumerate(model.queues):
        model._remember(queue, model.embed(batch["views"][v]))


def test_training_fills_the_queue_of_each_view_with_its_own_embeddings():
    model, batch = swav(queue_size=20, queue_start=0), batch_of()
    loss_of(model, batch, training=False)
    assert [int(queue.count) for queue in model.queues] == [0, 0]
    seen = []
    project = model._project
    model._project = lambda *args: seen.append(project(*args)) or seen[-1]
    model.compute_losses(batch, training=True)
    for v, queue in enumerate(model.queues):
        assert int(queue.count) == int(queue.pointer) == 10
        np.testing.assert_allclose(np.array(queue.keys)[:10], seen[0][v], atol=1e-6)


def test_queue_counts_from_its_first_step_on():
    model = swav(queue_size=20, queue_start=0.5)  # 3 of the 6 steps of an epoch
    model.compile(keras.optimizers.SGD(0.01))
    counts = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: counts.append([int(q.count) for q in model.queues])
    )
    model.fit(dataset(6), verbose=0, callbacks=[watch])
    assert counts == [[0, 0]] * 3 + [[10, 10], [20, 20], [20, 20]]


def test_a_batch_as_large_as_the_queue_goes_without():
    model, plain = swav(queue_size=8, queue_start=0), swav()
    for own, other in zip(plain.trainable_variables, model.trainable_variables):
        own.assign(other)
    found = model.compute_losses(batch_of(), training=True)["loss"]
    expected = plain.compute_losses(batch_of(), training=True)["loss"]
    assert float(found) == pytest.approx(float(expected))
    assert [int(queue.count) for queue in model.queues] == [0, 0]


# defaults and errors


def test_defaults_follow_the_size_of_the_images():
    small = SwAV(tiny_backbone())
    assert (small.num_prototypes, small.temperature, small.queues) == (64, 0.2, [])
    large = SwAV(tiny_backbone((96, 96, 3)))
    assert (large.num_prototypes, large.queue_size, large.queue_start) == (3000, 3840, 15)
    assert large.temperature == 0.1
    assert [tuple(w.shape) for w in small.projector.trainable_weights] == [
        (8, 2048),
        (2048,),
        (2048,),
        (2048,),
        (2048, 128),
        (128,),
    ]
    assert repr(small.default_views((32, 32))) == repr(views.swav(32))
    assert small.freeze_epochs == 1


def test_default_optimizer_has_the_papers_rates():
    optimizer = swav().paper_optimizer(1000, 4096)
    schedule = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    rates = [float(schedule(step)) for step in (0, 50, 100, 550, 1000)]
    np.testing.assert_allclose(rates, [0.3, 2.55, 4.8, 2.4024, 0.0048], rtol=1e-4)
    assert isinstance(optimizer, optimizers.LARC) and optimizer.weight_decay == 1e-6
    half = swav().paper_optimizer(1000, 2048).get_config()["learning_rate"]
    assert float(keras.optimizers.schedules.deserialize(half)(100)) == pytest.approx(2.4)
    for steps, batch, first in ((3, 4096, 4.8), (1000, 256, 0.6)):  # no warm-up
        schedule = swav().paper_optimizer(steps, batch).get_config()["learning_rate"]
        assert float(keras.optimizers.schedules.deserialize(schedule)(0)) == pytest.approx(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prototypes": 1}, "`num_prototypes` must be >= 2"),
        ({"iterations": 0}, "`iterations` must be >= 1"),
        ({"freeze_epochs": -1}, "`freeze_epochs` must be >= 0"),
        ({"queue_size": -1}, "`queue_size` must be >= 0"),
        ({"queue_start": -1}, "`queue_start` must be >= 0"),
        ({"temperature": 0}, "`temperature` must be > 0"),
        ({"epsilon": float("nan")}, "`epsilon` must be > 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        swav(**options)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="two views.*1"):
        swav().compute_losses(batch_of(large=1, small=0), training=True)


def test_learns_clusters():
    """Four colours: the codes of an image's views agree, and prototypes follow the colours."""
    rng = np.random.default_rng(0)
    colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.8, 0.8, 0.1]])
    labels = np.arange(64) % 4
    x = colours[labels][:, None, None] + 0.1 * rng.normal(size=(64, 8, 8, 3))
    x = np.clip(x, 0, 1).astype("float32")
    flips = views.MultiCrop([views.RandomResizedCrop(8), views.RandomResizedCrop(4)], (2, 2))
    model = SwAV(tiny_backbone(), num_prototypes=4, freeze_epochs=0.5)
    model.compile(keras.optimizers.Adam(0.01))
    stream = data.stream(data.load(x), flips, 32, seed=0)
    history = model.fit(stream, epochs=5, steps_per_epoch=10, verbose=0).history["loss"]
    assert history[-1] < 0.1 < history[0]  # of log 4 = 1.39
    best = np.argmax(model.embed(x) @ np.array(model.prototypes).T, axis=1)
    table = np.array([np.bincount(best[labels == k], minlength=4) for k in range(4)])
    assert table.max(axis=1).sum() >= 60 and len(set(table.argmax(axis=1))) == 4
