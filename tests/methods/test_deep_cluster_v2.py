"""DeepCluster-v2: what the loss is, which bank and centroids change when, defaults."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import BATCH, COUNT, head, source, train
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import data, optimizers, views
from keras_ssl.methods import clusters
from keras_ssl.ops import clustering

CLUSTERS = 5


def deep_cluster(**options):
    keras.utils.set_random_seed(1)
    defaults = {"projector": head(None), "num_prototypes": CLUSTERS, "temperature": 0.1}
    options = defaults | options
    model = keras_ssl.DeepClusterV2(tiny_backbone(), options.pop("num_images", COUNT), **options)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def batch_of(n=10, large=2, small=2, seed=0):
    """Ready batch of random views of 8 and 4 pixels, of images that lie apart in the data."""
    sizes = [8] * large + [4] * small
    made = [images(n, (s, s, 3), seed + i, "float32") for i, s in enumerate(sizes)]
    return {"views": tuple(map(tf.constant, made)), "index": tf.range(n) * 4}


def loss_of(model, batch):
    return float(model.compute_losses(batch, training=False)["loss"])


def rows_of(model):
    return [np.array(bank.rows) for bank in model.banks]


# the loss


def test_loss_is_the_mean_over_heads_views_and_images():
    model, batch = deep_cluster(temperature=0.3), batch_of()
    model.begin_epoch(source())
    labels, total = np.array(model.assignments)[np.array(batch["index"])], []
    for h in range(3):
        for view in batch["views"]:
            z = np.array(model.embed(view), "float64")
            s = z @ np.array(model.prototypes[h], "float64").T / 0.3
            log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
            total.append(-log_p[np.arange(10), labels[:, h]].mean())
    assert loss_of(model, batch) == pytest.approx(np.mean(total), rel=1e-4)


def test_images_without_a_cluster_do_not_count():
    model, batch = deep_cluster(), batch_of()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=False)["loss"]
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert float(loss) == 0 and not any(np.any(g) for g in gradients if g is not None)
    model.begin_epoch(source())
    labels, index = np.array(model.assignments), np.array(batch["index"])
    labels[index[3:]] = -1
    model.assignments.assign(labels)
    part = {"views": tuple(view[:3] for view in batch["views"]), "index": batch["index"][:3]}
    assert loss_of(model, batch) == pytest.approx(loss_of(model, part), rel=1e-4)


def test_numbers_of_clusters_do_not_matter():
    model, batch = deep_cluster(), batch_of()
    model.begin_epoch(source())
    value, order = loss_of(model, batch), np.random.default_rng(0).permutation(CLUSTERS)
    for prototypes in model.prototypes:
        prototypes.assign(np.array(prototypes)[order])
    model.assignments.assign(np.argsort(order)[np.array(model.assignments)])
    assert loss_of(model, batch) == pytest.approx(value, rel=1e-5)


def test_one_backbone_call_for_each_resolution():
    model, calls = deep_cluster(), []
    call = model.backbone.network.call
    model.backbone.network.call = lambda x, **kwargs: calls.append(x.shape[:2]) or call(x, **kwargs)
    loss_of(model, batch_of(5, large=2, small=3))
    assert calls == [(10, 8), (15, 4)]


# banks


def test_banks_are_filled_in_training_mode_before_the_first_epoch():
    """By the statistics of their batch, here of all images; running ones stay."""
    model = deep_cluster()
    before = [np.array(v) for v in model.weights if "moving" in v.path]
    model.begin_epoch(source())
    for old, new in zip(before, (v for v in model.weights if "moving" in v.path)):
        np.testing.assert_array_equal(old, new)
    pixels = images(COUNT).astype("float32") / 255
    z = model.projector(model.backbone(pixels, training=True), training=True)
    z = np.array(z) / np.linalg.norm(z, axis=1, keepdims=True)
    for rows in rows_of(model):
        np.testing.assert_allclose(rows, z, atol=1e-5)


def test_training_puts_each_view_into_its_bank():
    model, batch, seen = deep_cluster(), batch_of(), []
    model.begin_epoch(source())
    before, project = rows_of(model), model._project
    model._project = lambda *args: seen.append(project(*args)) or seen[-1]
    model.compute_losses(batch, training=False)
    np.testing.assert_array_equal(rows_of(model), before)
    model.compute_losses(batch, training=True)
    index = np.array(batch["index"])
    others = np.setdiff1d(np.arange(COUNT), index)
    for v, rows in enumerate(rows_of(model)):
        np.testing.assert_allclose(rows[index], seen[-1][v], atol=1e-5)
        np.testing.assert_array_equal(rows[others], before[v][others])


def test_heads_take_turns_at_the_banks():
    model = deep_cluster()
    model.begin_epoch(source())
    train(model, 3)  # the banks differ from now on
    model.run_seed.assign(2)
    banks = rows_of(model)
    model.begin_epoch(None)
    assert np.abs(banks[0] - banks[1]).max() > 0.01
    for h, prototypes in enumerate(model.prototypes):
        centroids, labels = clustering.spherical_kmeans(banks[h % 2], CLUSTERS, 10, [2, 3, h])
        np.testing.assert_allclose(prototypes, centroids, atol=1e-6)
        np.testing.assert_array_equal(np.array(model.assignments)[:, h], labels)
    assert clusters.seed_of(model, 1) == [2, 3, 1]


def test_images_without_an_embedding_have_no_cluster():
    model = deep_cluster()
    model.begin_epoch(source())
    for bank in model.banks:
        bank.rows.assign(np.where(np.arange(COUNT)[:, None] < 5, 0, np.array(bank.rows)))
    model.begin_epoch(None)
    labels = np.array(model.assignments)
    assert (labels[:5] == -1).all() and (labels[5:] >= 0).all()


def test_banks_start_from_images_alone():
    with pytest.raises(ValueError, match="memory of DeepClusterV2 starts from images.*ready"):
        deep_cluster().begin_epoch(None)


# prototypes


def test_prototypes_are_the_epochs_and_of_unit_length():
    model, seen = deep_cluster(), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(np.array(model.prototypes))
    )
    train(model, 3, epochs=2, callbacks=[watch])
    np.testing.assert_allclose(np.linalg.norm(seen, axis=-1), 1, atol=1e-5)
    for epoch in (seen[:3], seen[3:]):
        np.testing.assert_array_equal(epoch[0], epoch[2])
    assert np.abs(seen[0] - seen[3]).max() > 0.01
    trained = {id(v) for v in model.trainable_variables}
    assert not trained & {id(v) for v in model.prototypes}


def test_agreement_and_evenness_are_logged_as_means_over_the_heads():
    model, seen = deep_cluster(), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(np.array(model.assignments))
    )
    history = train(model, 3, epochs=2, callbacks=[watch]).history
    told = np.mean([clustering.agreement(seen[0][:, h], seen[1][:, h]) for h in range(3)])
    np.testing.assert_allclose(history["nmi"], [0, told], atol=1e-5)
    counts = [np.bincount(column, minlength=CLUSTERS) for column in seen[1].T]
    even = np.mean([clustering.evenness(own) for own in counts])
    assert history["cluster_entropy"][1] == pytest.approx(even, abs=1e-5)


# defaults and errors


def test_defaults_follow_the_size_and_the_number_of_images():
    small = keras_ssl.DeepClusterV2(tiny_backbone(), 20_000)
    assert (small.num_prototypes, small.num_heads, small.temperature) == (100, 3, 0.2)
    assert [tuple(w.shape) for w in small.projector.trainable_weights][-2:] == [(2048, 128), (128,)]
    assert "bn2" in small.projector.layers[-1].name
    large = keras_ssl.DeepClusterV2(tiny_backbone((96, 96, 3)), 40_000)
    assert (large.num_prototypes, large.temperature) == (3000, 0.1)
    assert "dense2" in large.projector.layers[-1].name
    assert keras_ssl.DeepClusterV2(tiny_backbone(), COUNT).num_prototypes == 4
    assert repr(small.default_views((32, 32))) == repr(views.swav(32))


def test_default_optimizer_has_the_papers_rates():
    optimizer = deep_cluster().paper_optimizer(1000, 4096)
    schedule = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    rates = [float(schedule(step)) for step in (0, 50, 100, 550, 1000)]
    np.testing.assert_allclose(rates, [0.3, 2.55, 4.8, 2.4024, 0.0048], rtol=1e-4)
    assert isinstance(optimizer, optimizers.LARC) and optimizer.weight_decay == 1e-6
    half = deep_cluster().paper_optimizer(3, 2048).get_config()["learning_rate"]
    assert float(keras.optimizers.schedules.deserialize(half)(0)) == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 1}, "`num_images` must be >= 2"),
        ({"num_prototypes": 1}, "`num_prototypes` must be >= 2"),
        ({"num_prototypes": 49}, "`num_prototypes` must not exceed.*49.*num_images=48"),
        ({"num_heads": 0}, "`num_heads` must be >= 1"),
        ({"temperature": 0}, "`temperature` must be > 0"),
        ({"rounds": 0}, "`rounds` must be >= 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        deep_cluster(**options)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="two views.*1"):
        deep_cluster().compute_losses(batch_of(large=1, small=0), training=True)


def test_learns_clusters():
    """Four colours: in the end each cluster holds images of one colour."""
    rng = np.random.default_rng(0)
    colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.8, 0.8, 0.1]])
    labels = np.arange(64) % 4
    x = colours[labels][:, None, None] + 0.1 * rng.normal(size=(64, 8, 8, 3))
    x = data.load(np.clip(x, 0, 1).astype("float32"))
    model = deep_cluster(num_images=64, num_prototypes=8)
    model.compile(keras.optimizers.Adam(0.01))
    crops = views.MultiCrop([views.RandomResizedCrop(8)], (2,))
    model.fit(x, batch_size=BATCH, epochs=4, views=crops, verbose=0)
    for own in np.array(model.assignments).T:
        table = np.array([np.bincount(labels[own == k], minlength=4) for k in range(8)])
        assert table.max(axis=1).sum() >= 60
