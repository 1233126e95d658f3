"""BoWNet: bags of a teacher's words, rotations that make the teacher, generations."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import BATCH, COUNT, frozen, source, train
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import backbones, views
from keras_ssl.methods import bow_net
from keras_ssl.ops import clustering

WORDS = 12


def made(teacher=None, **options):
    keras.utils.set_random_seed(1)
    model = keras_ssl.BoWNet(tiny_backbone(), teacher, **{"num_words": WORDS, **options})
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def batch(number=BATCH, crops=2):
    whole, *others = (images(number, seed=s, dtype="float32") for s in range(1 + crops))
    return {"views": tuple(map(tf.constant, (whole, *others)))}


def taught(**options):
    """With a given teacher, whose words are found."""
    model = made(frozen(), **options)
    model.begin_epoch(source())
    return model


def loss_of(model, b=None, training=False):
    return float(model.compute_losses(b or batch(), training=training)["loss"])


def bags_of(model, b):
    """Bags of the whole images, in NumPy."""
    maps = np.array(model.teacher.feature_map(b["views"][0]))
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    near = ((flat[:, :, None] - np.array(model.vocabulary)) ** 2).sum(-1).argmin(-1)
    return np.stack([np.bincount(row, minlength=WORDS) for row in near]) / near.shape[1]


# bags


def test_loss_is_the_cross_entropy_of_the_bags_of_the_whole_image():
    model, b = taught(), batch()
    bags, total = bags_of(model, b), 0.0
    w = np.array(model.word_weights, "float64")
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    model.scale.assign(1.7)
    for crop in b["views"][1:]:
        scores = 1.7 * np.array(model.backbone(crop), "float64") @ w.T
        log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        total -= np.mean((bags * log_p).sum(1)) / 2
    found = model.compute_losses(b, training=False)
    assert float(found["loss"]) == pytest.approx(total, rel=1e-5)
    entropy = -np.sum(bags * np.log(np.maximum(bags, 1e-30))) / len(bags)
    assert total >= entropy
    assert float(found["bag_entropy"]) == pytest.approx(entropy / math.log(WORDS), rel=1e-4)


def test_equal_predictions_have_the_logarithm_of_the_number_of_words():
    model = taught()
    model.scale.assign(0.0)
    assert loss_of(model) == pytest.approx(math.log(WORDS), rel=1e-5)


def test_the_length_of_word_weights_does_not_count():
    model = taught()
    first = loss_of(model)
    model.word_weights.assign(np.array(model.word_weights) * np.arange(1, WORDS + 1)[:, None])
    assert loss_of(model) == pytest.approx(first, rel=1e-5)


def test_words_are_the_centroids_of_the_teachers_features():
    model = made(frozen())
    model.run_seed.assign(3)
    model.begin_epoch(source())
    points = np.array(model.teacher.feature_map(images(COUNT))).reshape(-1, 6)
    labels = clustering.kmeans(points, WORDS, 20, [3, 0])
    expected = clustering.means(points, labels, WORDS)
    np.testing.assert_allclose(model.vocabulary, expected, atol=1e-5)
    assert int(model.generation) == 1


def test_of_large_data_some_places_of_each_image_are_clustered(monkeypatch):
    monkeypatch.setattr(bow_net, "_POINTS", 3 * COUNT)
    seen = []
    monkeypatch.setattr(
        clustering, "kmeans", lambda points, *_: seen.append(points) or np.arange(len(points)) % 12
    )
    model = made(frozen())
    model.begin_epoch(source())
    every = np.array(model.teacher.feature_map(images(COUNT))).reshape(COUNT, -1, 6)
    (points,) = seen
    points = points.reshape(COUNT, 3, 6)
    distance = np.abs(every[:, None] - points[:, :, None]).max(-1).min(-1)  # to the nearest place
    assert distance.max() < 1e-5 and np.ptp(points, axis=1).max() > 0


def test_presence_counts_every_word_once():
    model, b = taught(bag="presence"), batch()
    counts, found = bags_of(model, b), np.array(model._bags(b["views"][0]))
    there = counts > 0
    np.testing.assert_allclose(found, there / there.sum(1, keepdims=True), rtol=1e-5)


def test_no_gradient_reaches_the_teacher_and_its_words():
    model = taught()
    still = [*model.teacher.variables, model.vocabulary, model.generation]
    before = [np.array(v) for v in still]
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in still])
        loss = model.compute_losses(batch(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, [v.value for v in still[:-1]]))
    train(model, 3)
    for variable, old in zip(still, before):
        np.testing.assert_array_equal(variable, old)


def test_a_teacher_of_larger_images_sees_them_enlarged():
    model = made(frozen((12, 12, 3)))
    model.begin_epoch(source())
    assert model._features(batch()["views"][0]).shape == (BATCH, 36, 6)
    assert np.isfinite(loss_of(model))


# rotations


def test_before_there_are_words_the_loss_is_that_of_rotations():
    model, b = made(), batch()
    angles = np.array(model._angles(b["views"][1:]))
    assert (angles[:, 1] == (angles[:, 0] + 1) % 4).all() and len(set(angles[:, 0])) == 4
    total = 0.0
    for v, crop in enumerate(b["views"][1:]):
        turned = np.stack([np.rot90(x, k) for x, k in zip(np.array(crop), angles[:, v])])
        logits = np.array(model.rotation_head(model.backbone(turned)), "float64")
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        total -= log_p[np.arange(BATCH), angles[:, v]].mean() / 2
    assert loss_of(model, b) == pytest.approx(total, rel=1e-5)


def test_angles_are_those_of_the_seed_and_the_step_and_none_once_there_are_words():
    model, crops = made(), batch()["views"][1:]
    first = np.array(model._angles(crops))
    np.testing.assert_array_equal(model._angles(crops), first)
    model.run_seed.assign(1)
    assert (np.array(model._angles(crops)) != first).any()
    model.generation.assign(1)
    assert not np.any(model._angles(crops))


def test_each_part_of_the_run_trains_its_own_head():
    model, b = made(), batch()
    for generation, moved, still in [(0, "rotation", "word"), (1, "word", "rotation")]:
        model.generation.assign(generation)
        with tf.GradientTape() as tape:
            loss = model.compute_losses(b, training=True)["loss"]
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, found):
            if moved in variable.path:
                assert np.any(gradient)
            if still in variable.path:
                assert gradient is None or not np.any(gradient)


# generations


def watched(model, epochs):
    """Generation, teacher and backbone after every epoch of a run."""
    seen = []

    def note(epoch, logs):
        kernels = [model._network.weights[0], model.backbone.weights[0]]
        seen.append((int(logs["generation"]), *map(np.array, kernels)))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=note)
    train(model, 3, epochs=epochs, callbacks=[callback])
    return seen


def test_the_teacher_is_the_backbone_at_the_end_of_the_generation_before():
    model = made(rotation_share=0.4, generations=2)
    first = np.array(model.backbone.weights[0])
    seen = watched(model, 5)
    assert [generation for generation, _, _ in seen] == [0, 0, 1, 1, 2]
    np.testing.assert_array_equal(seen[0][1], first)
    for epoch in (2, 4):  # in which a generation begins
        np.testing.assert_array_equal(seen[epoch][1], seen[epoch - 1][2])
    np.testing.assert_array_equal(seen[3][1], seen[2][1])


def test_where_the_length_of_the_run_is_unknown_there_are_words_at_once():
    model = made()
    model.begin_epoch(source())
    assert int(model.generation) == 1 and np.any(model.vocabulary)
    before = np.array(model.vocabulary)
    model.backbone.weights[0].assign(model.backbone.weights[0] + 1)
    model.begin_epoch(source())  # nothing is due
    np.testing.assert_array_equal(model.vocabulary, before)


# defaults and errors


def test_defaults_follow_the_size_of_the_images():
    small, large = (
        keras_ssl.BoWNet(tiny_backbone((side, side, 3)), num_words=None) for side in (32, 64)
    )
    assert (small.num_words, small.bag) == (256, "counts")
    assert (large.num_words, large.bag) == (8192, "presence")
    assert repr(small.default_views((32, 32))) == repr(views.bow_net(32))
    optimizer = large.paper_optimizer(1000, 512)
    assert float(optimizer.learning_rate) == pytest.approx(0.2) and optimizer.momentum == 0.9
    assert optimizer.weight_decay == 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_words": 1}, "`num_words` must be >= 2"),
        ({"rounds": 0}, "`rounds` must be >= 1"),
        ({"generations": 0}, "`generations` must be >= 1"),
        ({"bag": "all"}, "`bag` must be one of"),
        ({"rotation_share": 1.0}, r"`rotation_share` must be in \(0, 1\)"),
        ({"generations": 2, "teacher": frozen()}, "`generations` belongs to teachers that"),
        ({"teacher": "nowhere.keras"}, "`teacher` must be a network.*nowhere.keras"),
        ({"teacher": tiny_backbone((8, 8, 1))}, "student's 3 channels.*1 channels"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_networks_without_a_map_and_images_that_are_not_square_are_refused():
    inputs = keras.Input((8, 8, 3))
    vectors = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="teacher of BoWNet must give a feature map"):
        keras_ssl.BoWNet(backbones.adopt(vectors))
    with pytest.raises(ValueError, match="must be square.*8 x 12.*Pass a teacher"):
        keras_ssl.BoWNet(tiny_backbone((8, 12, 3)))
    assert keras_ssl.BoWNet(backbones.adopt(vectors), frozen(), WORDS).rotation_share


def test_images_are_needed_and_places_for_all_words():
    with pytest.raises(ValueError, match="BoWNet makes its words of all images.*ready batches"):
        made().begin_epoch(None)
    with pytest.raises(ValueError, match="num_words=1000 and 768 places.*fewer words"):
        made(num_words=1000).begin_epoch(source())
    with pytest.raises(ValueError, match="BoWNet needs two views at least"):
        loss_of(made(), batch(crops=0))
