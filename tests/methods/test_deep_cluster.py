"""DeepCluster: weights by cluster, a top layer made anew, what k-means writes, defaults."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import BATCH, COUNT, source, train
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import data, optimizers, views
from keras_ssl.methods import clusters
from keras_ssl.ops import clustering

CLUSTERS = 5


def deep_cluster(optimizer=None, **options):
    keras.utils.set_random_seed(1)
    options = {"num_images": COUNT, "num_clusters": CLUSTERS, **options}
    model = keras_ssl.DeepCluster(tiny_backbone(), **options)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9))
    model.build_optimizer()
    return model


def all_images():
    """The images of `source`, as one batch."""
    pixels = images(COUNT).astype("float32") / 255
    return {"views": (tf.constant(pixels),), "index": tf.range(COUNT)}


def cross_entropies(model, batch, training=False):
    """Of each image, by its cluster, in float64."""
    features = model.backbone(batch["views"][0], training=training)
    logits = np.array(model.top_layer(features, training=training), "float64")
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_p[np.arange(len(logits)), np.array(model.assignments)[np.array(batch["index"])]]


def loss_of(model, batch):
    return float(model.compute_losses(batch, training=False)["loss"])


# the loss


def test_loss_is_the_mean_over_clusters_of_their_mean():
    """What drawing images evenly by cluster gives in expectation."""
    model, batch = deep_cluster(), all_images()
    model.begin_epoch(source())
    kernel, _ = model.top_layer.trainable_variables
    kernel.assign(kernel * 300)
    labels, values = np.array(model.assignments), cross_entropies(model, batch)
    assert len(set(np.bincount(labels))) > 1
    expected = np.mean([values[labels == k].mean() for k in range(CLUSTERS)])
    assert loss_of(model, batch) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(values.mean(), rel=1e-3)


def test_weights_share_the_images_evenly_among_the_clusters_in_use():
    model = deep_cluster()
    model._keep(np.array([0] * 30 + [2] * 10 + [3] * 5 + [-1] * 3))
    weights = np.array(model.cluster_weights)
    np.testing.assert_allclose(weights, [0.5, 0, 1.5, 3, 0])
    np.testing.assert_allclose(weights * [30, 0, 10, 5, 0], [15, 0, 15, 15, 0])


def test_every_epoch_begins_at_the_logarithm_of_the_number_of_clusters():
    model = deep_cluster(keras.optimizers.Adam(0.03))
    kernel, bias = model.top_layer.trainable_variables
    for _ in range(2):
        model.begin_epoch(source())
        assert loss_of(model, all_images()) == pytest.approx(math.log(CLUSTERS), abs=0.02)
        assert 0.005 < np.std(kernel) < 0.02 and not np.any(bias)
        train(model, 3)
        assert np.std(kernel) > 0.03 and np.all(bias)


def test_images_without_a_cluster_do_not_count():
    model, batch = deep_cluster(), all_images()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=False)["loss"]
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert float(loss) == 0 and not any(np.any(g) for g in gradients if g is not None)
    model.begin_epoch(source())
    known, labels = np.arange(COUNT) % 3 > 0, np.array(model.assignments)
    model.assignments.assign(np.where(known, labels, -1))
    values = cross_entropies(model, batch) * np.array(model.cluster_weights)[labels]
    assert loss_of(model, batch) == pytest.approx(values[known].mean(), rel=1e-4)


# between epochs


def test_clusters_are_those_of_whitened_features():
    model = deep_cluster()
    model.run_seed.assign(3)
    features = np.array(model.encode(images(COUNT)))
    model.begin_epoch(source())
    points = clustering.pca_whitened(features, 256, [3, 0])
    expected = clustering.kmeans(points, CLUSTERS, 20, [3, 0])
    np.testing.assert_array_equal(model.assignments, expected)
    assert np.bincount(expected, minlength=CLUSTERS).min() > 0
    assert 0 < float(model.cluster_entropy) <= 1 and float(model.nmi) == 0


def test_the_seed_and_the_step_decide_between_epochs():
    def after(seed, step):
        model = deep_cluster()
        model.run_seed.assign(seed)
        model.batches_seen.assign(step)
        model.begin_epoch(source())
        return np.array(model.assignments), np.array(model.top_layer.trainable_variables[0])

    first, again = after(1, 3), after(1, 3)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    for other in (after(2, 3), after(1, 6)):
        assert np.abs(other[1] - first[1]).max() > 0.001
        assert clustering.agreement(first[0], other[0]) < 1


def test_begin_epoch_leaves_the_backbone_and_its_statistics():
    model = keras_ssl.DeepCluster(tiny_backbone(), COUNT, CLUSTERS)  # it needs no optimizer
    before = [np.array(v) for v in model.backbone.weights]
    model.begin_epoch(source())
    for old, new in zip(before, model.backbone.weights):
        np.testing.assert_array_equal(old, new)


def test_agreement_with_the_epoch_before_is_logged():
    model = deep_cluster()
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(np.array(model.assignments))
    )
    history = train(model, 3, epochs=3, callbacks=[watch]).history
    expected = [0, *(clustering.agreement(a, b) for a, b in zip(seen, seen[1:]))]
    np.testing.assert_allclose(history["nmi"], expected, atol=1e-5)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_optimizer_forgets_the_top_layer_alone(optimizer):
    model = deep_cluster(optimizer())
    train(model, 3)
    slots = [v for v in optimizers.inner(model.optimizer).variables if len(v.shape)]
    top = [v for v in slots if "top_layer" in v.name]
    before = [np.array(v) for v in slots]
    assert len(top) in (2, 4) and all(np.any(v) for v in top)
    model.begin_epoch(source())
    for slot, old in zip(slots, before):
        assert not np.any(slot) if "top_layer" in slot.name else np.array_equal(slot, old)


def test_inside_another_method_the_optimizer_of_that_forgets():
    keras.utils.set_random_seed(1)
    inner = keras_ssl.DeepCluster(tiny_backbone(), COUNT, CLUSTERS)
    model = keras_ssl.Auxiliary(4, inner)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(source(), batch_size=BATCH, epochs=1, verbose=0)
    top = [v for v in model.optimizer.variables if "top_layer" in v.name]
    assert len(top) == 2 and all(np.any(v) for v in top)
    model.begin_epoch(source())
    assert not any(np.any(v) for v in top)


def test_ready_batches_are_refused():
    with pytest.raises(ValueError, match="DeepCluster clusters all images.*ready batches.*fit"):
        deep_cluster().begin_epoch(None)


# all images


class Part:
    """A source of ten images of which some are unreadable."""

    size, index = 10, np.array([0, 1, 3, 4, 5, 8, 9])

    def batches(self, image_size, batch_size=3):
        for start in range(0, len(self.index), batch_size):
            own = self.index[start : start + batch_size]
            yield np.ones((len(own), *image_size, 3), "float32") * own[:, None, None, None], own


@pytest.mark.parametrize("in_memory", [2**32, 0])
def test_features_of_all_images_in_batches_of_one_size(in_memory, monkeypatch):
    monkeypatch.setattr(clusters, "_IN_MEMORY", in_memory)
    sizes = []

    def mean(x):
        sizes.append(len(x))
        return x.mean(axis=(1, 2))

    found, index = clusters.of_all_images(mean, Part(), (2, 2), "test")
    assert sizes == [3, 3, 3] and isinstance(found, np.memmap) == (in_memory == 0)
    np.testing.assert_array_equal(index, Part.index)
    np.testing.assert_array_equal(found, np.tile(Part.index[:, None], 3))


def test_unreadable_images_have_no_cluster():
    model = deep_cluster(num_images=10, num_clusters=3)
    model.begin_epoch(Part())
    labels = np.array(model.assignments)
    assert set(np.flatnonzero(labels < 0)) == {2, 6, 7}
    np.testing.assert_allclose(np.sum(np.array(model.cluster_weights)[labels[Part.index]]), 7)


# defaults and errors


def test_defaults_follow_the_size_and_the_number_of_images():
    def made(side, n):
        return keras_ssl.DeepCluster(tiny_backbone((side, side, 3)), n)

    small, large = made(32, 50_000), made(64, 200_000)
    assert small.num_clusters == 100 and large.num_clusters == 10_000
    assert made(32, 500).num_clusters == 50 and made(64, 500).num_clusters == 50
    assert repr(large.default_views((64, 64))) == repr(views.supervised(64))
    # Normalised features below 64 px.
    assert len(small.top_layer.layers) == 1 + len(large.top_layer.layers)
    optimizer = small.paper_optimizer(1000, 512)
    assert float(optimizer.learning_rate) == pytest.approx(0.1) and optimizer.momentum == 0.9
    assert optimizer.weight_decay == 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 1}, "`num_images` must be >= 2"),
        ({"num_clusters": 1}, "`num_clusters` must be >= 2"),
        ({"num_clusters": 49}, "`num_clusters` must not exceed.*49.*num_images=48"),
        ({"pca_dim": 0}, "`pca_dim` must be >= 1"),
        ({"rounds": 0}, "`rounds` must be >= 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        deep_cluster(**options)


def test_other_images_have_no_cluster():
    with pytest.raises(ValueError, match="num_images=48 and 20 images"):
        deep_cluster().evaluate(images(20), verbose=0)


def test_learns_clusters():
    """Four colours: in the end the clusters are the colours."""
    rng = np.random.default_rng(0)
    colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.8, 0.8, 0.1]])
    labels = np.arange(64) % 4
    x = colours[labels][:, None, None] + 0.1 * rng.normal(size=(64, 8, 8, 3))
    model = deep_cluster(keras.optimizers.Adam(0.01), num_images=64, num_clusters=4)
    source = data.load(np.clip(x, 0, 1).astype("float32"))
    model.fit(source, batch_size=32, epochs=5, views=views.plain(8), verbose=0)
    assert clustering.agreement(np.array(model.assignments), labels) > 0.9
