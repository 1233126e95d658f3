"""OBoW: bags by a vocabulary that is renewed, predictions that follow its words, the teacher."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import BATCH
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import backbones, losses, optimizers, views
from keras_ssl.ops import l2_normalize
from keras_ssl.ops import words as bags_of_words

WORDS = 24


def made(backbone=None, **options):
    keras.utils.set_random_seed(1)
    model = keras_ssl.OBoW(backbone or tiny_backbone(), **{"num_words": WORDS, **options})
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def batch(number=BATCH, sizes=(8, 8), seed=0):
    views = [images(number, seed=seed, dtype="float32")]
    views += [
        images(number, (side, side, 3), seed + 1 + v, "float32") for v, side in enumerate(sizes)
    ]
    return {"views": tuple(map(tf.constant, views))}


def filled(**options):
    """With words of three batches, and their mean distance."""
    model = made(**options)
    for seed in range(3):
        model.compute_losses(batch(seed=10 * seed), training=True)
    return model


def loss_of(model, b=None, training=False):
    return float(model.compute_losses(b or batch(), training=training)["loss"])


def places_of(model, b, training=False):
    return np.array(model._places(b["views"][0], training)[0])


# the loss


def test_loss_is_the_sum_over_sizes_of_the_mean_divergence():
    model, b = filled(), batch(sizes=(8, 6, 8))
    places = places_of(model, b)
    distances = bags_of_words.squared_distances(
        places.reshape(BATCH, -1, places.shape[-1]), model.vocabularies[0].keys
    )
    bags = bags_of_words.soft_bag(distances, 10.0 / float(model.mean_distances[0]))
    weights = l2_normalize(model.generators[0](l2_normalize(model.vocabularies[0].keys)))
    by_size = {6: [], 8: []}
    for crop in b["views"][1:]:
        scores = 5.0 * np.array(model.backbone(crop)) @ np.array(weights).T
        by_size[crop.shape[1]].append(float(losses.code_divergence(bags, scores)))
    assert len(by_size[8]) == 2
    expected = sum(map(np.mean, by_size.values()))
    assert loss_of(model, b) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_words_in_another_order_change_nothing(training):
    """No weight of the predictions belongs to a place in the vocabulary."""
    first, other = filled(), filled()
    keys, order = other.vocabularies[0].keys, np.random.default_rng(0).permutation(WORDS)
    keys.assign(np.array(keys)[order])
    found = [model.compute_losses(batch(), training) for model in (first, other)]
    for name in first.loss_names:
        assert float(found[0][name]) == pytest.approx(float(found[1][name]), rel=1e-4)


def test_equal_predictions_lack_the_entropy_of_the_bags():
    model = filled(scale=1e-9)
    found = model.compute_losses(batch(), training=False)
    expected = math.log(WORDS) * (1 - float(found["bag_entropy"]))
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)


def test_a_sharp_code_of_words_themselves_is_one_hot():
    model, b = made(sharpness=1e6), batch()
    places = places_of(model, b)[:, :1, :1]  # one place an image
    keys = model.vocabularies[0].keys
    keys.assign(np.concatenate([places[:, 0, 0], np.array(keys)[BATCH:]]))
    bags = model._bag(0, tf.constant(places), training=False)
    np.testing.assert_allclose(bags, np.eye(BATCH, WORDS), atol=1e-5)


def test_gradients_reach_the_backbone_and_the_generator_alone():
    model = filled()
    fixed = [
        *model.teacher_backbone.variables,
        model.vocabularies[0].keys,
        model.mean_distances[0],
    ]
    trained = model.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in fixed])
        loss = model.compute_losses(batch(), training=True)["loss"]
    found = tape.gradient(loss, [v.value for v in [*fixed, *trained]])
    assert all(g is None for g in found[: len(fixed)])
    assert all(g is not None for g in found[len(fixed) :])
    networks = [model.backbone, *model.generators]
    assert {id(v) for v in trained} == {id(v) for n in networks for v in n.trainable_variables}


# the vocabulary


def test_words_are_averages_of_nine_places_of_each_image():
    """A map of 4 x 4 places keeps its border, and has four such averages."""
    model, b = made(), batch()
    places = places_of(model, b, training=True)
    assert places.shape[1:3] == (4, 4)
    averages = np.stack(
        [places[:, y : y + 3, x : x + 3].mean((1, 2)) for y in (0, 1) for x in (0, 1)], axis=1
    )
    model.compute_losses(b, training=True)
    entered = np.array(model.vocabularies[0].keys)[:BATCH]
    distances = np.abs(averages - entered[:, None]).max(-1)
    assert distances.min(1).max() < 1e-5
    assert len(set(distances.argmin(1))) > 1  # not the same place of all


def test_larger_maps_lose_their_border():
    model = made(tiny_backbone((12, 12, 3)))
    b = {"views": (tf.constant(images(4, (12, 12, 3), dtype="float32")),)}
    whole = np.array(model.teacher_backbone.feature_map(b["views"][0]))
    np.testing.assert_allclose(places_of(model, b), whole[:, 1:-1, 1:-1], atol=1e-6)


def test_the_oldest_words_are_replaced_after_the_loss_has_used_them():
    first, other = filled(), filled()
    queue = first.vocabularies[0]
    before, oldest = np.array(queue.keys), int(queue.pointer)
    loss = loss_of(first, training=True)
    after = np.array(queue.keys)
    (changed,) = np.nonzero(np.any(before != after, axis=1))
    assert set(changed) == {(oldest + i) % WORDS for i in range(BATCH)}
    other.vocabularies[0].enqueue = lambda rows: None
    assert loss_of(other, training=True) == loss


def test_the_mean_distance_moves_before_it_is_used():
    model, b = made(), batch()
    flat = places_of(model, b, training=True).reshape(BATCH, -1, 8)
    vocabulary = np.array(model.vocabularies[0].keys)
    distances = np.array(bags_of_words.squared_distances(flat, vocabulary))
    mean = 0.99 * 0.5 + 0.01 * distances.min(-1).mean()
    bags = model._bag(0, model._places(b["views"][0], True)[0], True)
    assert float(model.mean_distances[0]) == pytest.approx(mean, rel=1e-5)
    np.testing.assert_allclose(bags, bags_of_words.soft_bag(distances, 10 / mean), atol=1e-5)


def test_places_are_those_of_the_seed_and_the_step():
    def words(seed, step):
        model = made()
        model.run_seed.assign(seed)
        model.batches_seen.assign(step)
        model.compute_losses(batch(), training=True)
        return np.array(model.vocabularies[0].keys)

    first = words(1, 2)
    np.testing.assert_array_equal(first, words(1, 2))
    for other in (words(2, 2), words(1, 3)):
        assert np.abs(other - first).max() > 1e-3


# levels


def test_two_levels_have_words_of_their_own_width():
    model = made(backbones.small_conv((16, 16, 3), widths=(4, 6, 8)))
    assert model.levels == 2 and [q.width for q in model.vocabularies] == [6, 8]
    b = {"views": tuple(tf.constant(images(8, (16, 16, 3), s, "float32")) for s in range(2))}
    maps = model._places(b["views"][0], training=False)
    # 8 x 8 places without border; of 4 x 4 all
    assert [tuple(x.shape) for x in maps] == [(8, 6, 6, 6), (8, 4, 4, 8)]
    assert np.isfinite(loss_of(model, b, training=True))
    assert all(np.any(np.array(q.keys)[:8] >= 0) for q in model.vocabularies)


def test_levels_follow_the_network():
    transformer = backbones.vit(8, 1, 2, (8, 8, 3), pooling="avg")
    assert made(transformer).levels == 1 and made(levels=1).levels == 1
    with pytest.raises(ValueError, match="last 2 stages give feature maps"):
        made(transformer, levels=2)


# the teacher


def test_the_teacher_follows_by_half_a_cosine():
    model = made(momentum=0.9)
    model.total_steps.assign(4)
    student, teacher = model.backbone.weights[0], model.teacher_backbone.weights[0]
    old = np.array(teacher)
    student.assign(student + 1)
    model.batches_seen.assign(2)  # half of the run
    model.after_step()
    decay = float(optimizers.cosine_momentum(0.5, 1, 0.9))
    assert decay == pytest.approx(0.95)
    np.testing.assert_allclose(teacher, decay * old + (1 - decay) * np.array(student), atol=1e-6)


# defaults and errors


def test_defaults_follow_the_size_of_the_images():
    small, large = (keras_ssl.OBoW(tiny_backbone((side, side, 3)), levels=1) for side in (32, 64))
    assert (small.num_words, small.sharpness, small.scale) == (1024, 10, 5)
    assert (large.num_words, large.sharpness, large.scale) == (8192, 15, 8)
    assert repr(small.default_views((32, 32))) == repr(views.obow(32))
    optimizer = large.paper_optimizer(1000, 256)
    schedule = optimizer._learning_rate
    assert schedule.peak == pytest.approx(0.03)
    assert schedule.floor == pytest.approx(3e-5) and schedule.warmup_steps == 100
    assert optimizer.momentum == 0.9 and optimizer.weight_decay == 1e-4


def test_a_vocabulary_is_cut_to_the_number_of_images():
    model = made(num_words=100)
    model.fit(images(32), batch_size=16, epochs=1, verbose=0)
    assert model.num_words == 32 and model.get_config()["num_words"] == 32
    assert model.vocabularies[0].keys.shape[0] == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_words": 1}, "`num_words` must be >= 2"),
        ({"levels": 0}, "`levels` must be >= 1"),
        ({"sharpness": 0.0}, "`sharpness` must be > 0"),
        ({"scale": -1.0}, "`scale` must be > 0"),
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_networks_without_a_map_and_batches_without_crops_are_refused():
    inputs = keras.Input((8, 8, 3))
    vectors = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="`backbone` of OBoW must give a feature map"):
        made(backbones.adopt(vectors))
    with pytest.raises(ValueError, match="OBoW needs two views at least"):
        loss_of(made(), batch(sizes=()))
