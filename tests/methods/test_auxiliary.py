"""Auxiliary: the sum of two losses, its ends at weight 0 and without labels, one clock."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import COUNT, SHAPE, head
from toys import Clusters, TwoPlayers, images, tiny_backbone

import keras_ssl
from keras_ssl import cli
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads

PIXELS, LABELS = images(COUNT), np.arange(COUNT) % 4


def rotnet():
    return keras_ssl.RotNet(tiny_backbone())


def byol():
    return keras_ssl.BYOL(tiny_backbone(), head(None), head(None, 16, "predictor"), momentum=0.9)


def moco():
    return keras_ssl.MoCo(tiny_backbone(), queue_size=40, momentum=0.9, groups=8)


def instdisc():
    return keras_ssl.InstDisc(tiny_backbone(), COUNT, temperature=0.5, num_negatives=16)


def made(make, **options):
    """A model that always has the same weights."""
    keras.utils.set_random_seed(1)
    return make(**options)


def auxiliary(method=rotnet, weight=1.0, classifier=4):
    return made(lambda: keras_ssl.Auxiliary(classifier, method(), weight))


def sgd(**options):
    return keras.optimizers.SGD(0.05, momentum=0.9, **options)


def fit(model, labels=LABELS, optimizer=None, epochs=2, views=None):
    model.compile(optimizer or sgd())
    return model.fit(PIXELS, labels, batch_size=16, epochs=epochs, seed=3, views=views, verbose=0)


def batch(model, labels=LABELS):
    """A ready batch of the first 16 images."""
    views = model.default_views(SHAPE[:2])
    parts = [views(tf.constant(x), tf.constant([i, 7])) for i, x in enumerate(PIXELS[:16])]
    stacked = tf.nest.map_structure(lambda *x: tf.stack(x), *parts)
    index = tf.range(16, dtype=tf.int64)
    return {**stacked, "label": tf.constant(labels[:16], tf.int64), "index": index}


def numbers(found):
    return {name: float(value) for name, value in found.items()}


def values(variables):
    return [np.array(v) for v in variables]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


class Supervised(SSLModel):
    """The classifier alone: plain cross-entropy."""

    batch_keys = ("supervised", "label")

    def __init__(self, backbone, classifier):
        super().__init__()
        self.backbone, self.classifier = backbone, classifier

    def compute_losses(self, batch, training):
        logits = heads.chain(batch["supervised"], self.backbone, self.classifier, training=training)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"loss": loss(batch["label"], logits)}


# === The ends: the method without a part, labels without a part ===


def own(model):
    """All that belongs to the method alone."""
    shared = {id(v) for v in model.backbone.variables}
    clock = {id(getattr(model, name)) for name in ("total_steps", "steps_per_epoch")}
    clock |= {id(model.batches_seen), id(model.run_seed)}
    return [v for v in model.method.variables if id(v) not in shared | clock]


@pytest.mark.parametrize("method", [rotnet, byol])
def test_at_weight_0_it_is_the_supervised_run_bit_for_bit(method):
    """With clipping and decay, which would see any gradient of the method's."""
    model = auxiliary(method, weight=0)
    alone = Supervised(tiny_backbone(), keras.models.clone_model(model.classifier))
    for ours, theirs in ((model.backbone, alone.backbone), (model.classifier, alone.classifier)):
        theirs.set_weights(ours.get_weights())
    before, untouched = model.backbone.get_weights(), values(own(model))
    limits = {"global_clipnorm": 0.5, "weight_decay": 1e-3}
    history = fit(model, optimizer=sgd(**limits)).history
    fit(alone, optimizer=sgd(**limits), views=model.default_views(SHAPE[:2]))
    same(model.backbone.get_weights(), alone.backbone.get_weights())
    same(model.classifier.get_weights(), alone.classifier.get_weights())
    same(values(model.optimizer.variables), values(alone.optimizer.variables))
    assert any((a != b).any() for a, b in zip(before, model.backbone.get_weights()))
    same(untouched, values(own(model)))
    assert history["auxiliary"] == [0.0, 0.0] and history["loss"] == history["supervised"]


@pytest.mark.parametrize("method", [byol, moco, instdisc])
def test_without_labels_the_method_is_trained_as_alone(method):
    """Weights, teacher, queue or bank; the backbone's running statistics follow both views."""
    model, alone = auxiliary(method), made(method)
    fit(model, labels=np.full(COUNT, -1))
    fit(alone, labels=None)
    statistics = {id(v) for v in model.backbone.non_trainable_variables}
    pairs = list(zip(model.method.variables, alone.variables))
    for ours, theirs in pairs:
        if id(ours) not in statistics:
            np.testing.assert_allclose(
                np.array(ours), np.array(theirs), atol=1e-6, rtol=1e-5, err_msg=ours.path
            )
    assert int(model.method.step) == int(alone.step) == 6 and len(pairs) > 10


def test_with_a_weight_that_passes_0_the_method_still_runs():
    model = auxiliary(weight=(0.0, 1.0))  # 0 in the first step
    model.compile(sgd())
    before = values(model.backbone.non_trainable_variables)
    head_before = model.method.head.get_weights()
    plain = auxiliary(weight=0)
    plain.compile(sgd())
    for each in (model, plain):
        each.train_on_batch(batch(each))
    same(head_before, model.method.head.get_weights())
    same(values(model.backbone.trainable_variables), values(plain.backbone.trainable_variables))
    moved = zip(before, values(model.backbone.non_trainable_variables))
    assert all((a != b).any() for a, b in moved)
    statistics = (values(m.backbone.non_trainable_variables) for m in (model, plain))
    assert all((a != b).any() for a, b in zip(*statistics))


# === The sum ===


def test_gradients_add_up():
    model = auxiliary(weight=0.3)
    b = batch(model, np.where(np.arange(COUNT) % 3, LABELS, -1))
    groups = (model.backbone, model.classifier, model.method.head)
    variables = [v.value for group in groups for v in group.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        found = model.compute_losses(b, True)
        method = model.method.compute_losses(b, True)["loss"]
    total, labels, pretext = (
        tape.gradient(loss, variables, unconnected_gradients="zero")
        for loss in (found["loss"], found["supervised"], method)
    )
    for whole, first, second in zip(total, labels, pretext):
        np.testing.assert_allclose(whole, first + 0.3 * second, atol=1e-6, rtol=1e-4)
    shared = len(model.backbone.trainable_variables)
    assert all(np.any(g) for part in (labels, pretext) for g in part[:shared])
    assert not any(np.any(g) for g in [*labels[shared + 2 :], *pretext[shared : shared + 2]])
    found = numbers(found)
    assert found["auxiliary"] == pytest.approx(float(method), rel=1e-6)
    assert found["loss"] == pytest.approx(found["supervised"] + 0.3 * float(method), rel=1e-6)


def test_labels_that_are_unknown_count_in_neither_loss_nor_accuracy():
    model = auxiliary(weight=0)
    known, b = np.arange(16) % 3 == 0, batch(model, np.where(np.arange(COUNT) % 3, -1, LABELS))
    logits = model.classifier(model.backbone(b["supervised"], training=True)).numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    right = logits.argmax(1)[known] == LABELS[:16][known]
    found = numbers(model.compute_losses(b, True))
    expected = -log_p[known, LABELS[:16][known]].mean()
    assert found["supervised"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == pytest.approx(right.mean())
    nothing = numbers(model.compute_losses({**b, "label": tf.fill((16,), -1)}, True))
    assert nothing["supervised"] == nothing["accuracy"] == 0


def test_the_weight_follows_the_share_of_the_run():
    model = auxiliary(weight=(2.0, 0.5))
    b, found = batch(model), []
    for total, step in ((0, 0), (10, 0), (10, 4), (10, 10), (10, 12)):
        model.total_steps.assign(total)
        model.batches_seen.assign(step)
        losses = numbers(model.compute_losses(b, False))
        found.append((losses["loss"] - losses["supervised"]) / losses["auxiliary"])
    np.testing.assert_allclose(found, [2.0, 2.0, 1.4, 0.5, 0.5], rtol=1e-4)


# === State ===


def test_clocks_are_one_where_gradients_are_accumulated_too():
    model = auxiliary(byol)
    assert model.method.batches_seen is model.batches_seen
    kernel = model.method.teacher_projector.weights[0]
    before = np.array(kernel)
    model.compile(sgd(gradient_accumulation_steps=2))
    b = batch(model)
    steps = []
    for _ in range(4):
        model.train_on_batch(b)
        moved = bool((np.array(kernel) != before).any())
        steps.append((int(model.step), int(model.method.step), moved))
    assert steps == [(0, 0, False), (1, 1, True), (1, 1, True), (2, 2, True)]
    model.total_steps.assign(4)
    assert float(model.method.progress) == float(model.progress) == 0.5


def test_a_loaded_model_has_one_clock(tmp_path):
    model = auxiliary(weight=(1.0, 0.0))
    model.batches_seen.assign(5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.method.batches_seen is loaded.batches_seen and int(loaded.method.step) == 5
    assert loaded.weight == (1.0, 0.0) and type(loaded.method) is keras_ssl.RotNet
    assert loaded.method.backbone is loaded.backbone and loaded.num_classes == 4
    np.testing.assert_array_equal(loaded.logits(PIXELS[:4]), model.logits(PIXELS[:4]))


def test_work_between_epochs_is_done():
    model = auxiliary(lambda: Clusters(tiny_backbone(), COUNT))
    fit(model, epochs=1)
    counts = np.bincount(np.array(model.method.assignments), minlength=4)
    assert model.can("begin_epoch") and counts.tolist() == [12] * 4
    left_out = auxiliary(lambda: Clusters(tiny_backbone(), COUNT), weight=0)
    assert not left_out.can("begin_epoch") and left_out.num_images == COUNT


def test_a_queue_larger_than_the_data_is_cut(capsys):
    model = auxiliary(lambda: keras_ssl.MoCo(tiny_backbone(), queue_size=100, groups=8))
    model.compile(sgd(), run_eagerly=True)
    model.fit(PIXELS, LABELS, batch_size=16, steps_per_epoch=1, verbose=2)
    assert "queue of 48 in the place of 100" in capsys.readouterr().out
    assert model.method.queue_size == model.method.queue.size == 48
    assert int(model.method.queue.count) == 16


# === Use ===


def test_it_classifies_and_embeds_as_its_parts():
    model = auxiliary(lambda: keras_ssl.SimCLR(tiny_backbone()))
    pixels, floats = PIXELS[:4], PIXELS[:4].astype("float32") / 255
    logits = model.logits(pixels)
    expected = model.classifier(model.backbone(floats, training=False))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert logits.shape == (4, 4) and model.can("embed") and not model.can("sample")
    np.testing.assert_array_equal(model(pixels), model.method.encode(pixels))
    np.testing.assert_array_equal(model.embed(pixels), model.method.embed(pixels))


def test_labels_are_learnt_where_a_tenth_is_known():
    """Two classes of noise that differ in brightness; 6 of 48 labels are given."""
    pixels, labels = PIXELS.copy(), np.arange(COUNT) % 2
    pixels[labels == 1] //= 2
    model = auxiliary(classifier=2)
    model.compile(keras.optimizers.Adam(1e-2))
    some = np.where(np.arange(COUNT) < 6, labels, -1)
    history = model.fit(pixels, some, batch_size=16, epochs=15, verbose=0).history
    predicted = np.array(model.logits(pixels)).argmax(1)
    assert (predicted == labels)[6:].mean() > 0.9, history["loss"]


def test_forms_of_a_classifier():
    layer = keras.layers.Dense(3, use_bias=False)
    network = keras.Sequential([keras.Input((8,)), keras.layers.ReLU(), keras.layers.Dense(5)])
    assert [tuple(w.shape) for w in auxiliary(classifier=4).classifier.weights] == [(8, 4), (4,)]
    assert [tuple(w.shape) for w in auxiliary(classifier=layer).classifier.weights] == [(8, 3)]
    model = auxiliary(classifier=network)
    assert model.classifier is network and model.num_classes == 5


def test_the_optimizer_is_the_method_s():
    model = auxiliary()
    assert model.short_run is model.method.short_run
    assert type(model.default_optimizer(100, 16)) is keras.optimizers.Adam
    ours, theirs = (m.paper_optimizer(100, 16).get_config() for m in (model, model.method))
    assert {**ours, "name": ""} == {**theirs, "name": ""}


# === Refusals ===


class OwnStep(keras_ssl.SSLModel):
    """A method that takes its step by itself."""

    def update(self, batch):
        return super().update(batch)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": lambda: TwoPlayers(tiny_backbone())}, "TwoPlayers, with players .*'critic'"),
        ({"method": OwnStep}, "OwnStep, with an `update` of its own"),
        ({"method": auxiliary}, "Received: an Auxiliary"),
        ({"method": tiny_backbone}, "Received: Backbone. .*RotNet"),
        ({"method": lambda: "rotnet"}, "Received: 'rotnet'. .*keras_ssl.create"),
        ({"classifier": 1}, "classifier=1"),
        ({"classifier": keras.layers.Conv2D(4, 3)}, "8 features. .*'conv2d.*', which takes others"),
        ({"classifier": keras.layers.Reshape((4, 2))}, r"'reshape.*', which makes \(4, 2\)"),
        ({"classifier": "10"}, "Received: '10'"),
        ({"weight": -0.1}, "weight=-0.1"),
        ({"weight": (1.0, -1.0)}, r"weight=\(1.0, -1.0\)"),
        ({"weight": (1.0, 0.5, 0.0)}, r"weight=\(1.0, 0.5, 0.0\)"),
        ({"weight": float("nan")}, "weight=nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(change, says):
    with pytest.raises(ValueError, match=says):
        auxiliary(**change)


def test_wrong_labels():
    for labels, says in ((LABELS + 1, "from 1 to 4"), (LABELS - 2, "from -2 to 1")):
        with pytest.raises(ValueError, match=f"from 0 to 3, .*4 outputs.*{says}"):
            fit(auxiliary(), labels=labels)
    with pytest.raises(ValueError, match="trains with labels"):
        fit(auxiliary(), labels=None)


def test_create_takes_a_method_or_its_name():
    given = rotnet()
    model = keras_ssl.create("auxiliary", method=given, classifier=4, weight=[1, 0.5])
    assert model.method is given and model.weight == (1, 0.5)
    model = keras_ssl.create(
        "auxiliary", SHAPE, tiny_backbone(), method="rotnet", classifier=np.int64(3)
    )
    assert type(model.method) is keras_ssl.RotNet and model.num_classes == 3
    with pytest.raises(ValueError, match="`method` of Auxiliary must be given: .*or text"):
        keras_ssl.create("auxiliary", classifier=4)
    with pytest.raises(ValueError, match="`backbone` must be left out"):
        keras_ssl.create("auxiliary", SHAPE, "small_conv", method=given, classifier=4)
    with pytest.raises(ValueError, match="`weight` of Auxiliary must be a number or a pair"):
        keras_ssl.create("auxiliary", method=given, classifier=4, weight=[1, "x"])


@pytest.mark.slow
def test_the_main_job_takes_the_name_and_goes_on(tmp_path):
    source = keras_ssl.data.from_array(images(32, (16, 16, 3)), np.arange(32) % 5 - 1)
    options = {"method": "rotnet", "classifier": 4, "weight": [1.0, 0.2]}
    arguments = {"backbone": "small_conv", "batch_size": 16, "monitor": False, "verbose": 0}
    for epochs in (1, 2):
        run = keras_ssl.pretrain(
            "auxiliary",
            source,
            tmp_path / "run",
            test=source,
            epochs=epochs,
            method_options=options,
            **arguments,
        )
    assert [row["epoch"] for row in run.metrics] == [0, 1, 2]
    assert int(run.model.method.step) == 4 and run.model.weight == (1.0, 0.2)
    assert keras_ssl.load_encoder(tmp_path / "run").feature_dim == run.model.backbone.feature_dim


def test_the_command_asks_for_classifier_and_method(tmp_path, capsys):
    command = ["pretrain", "--method=auxiliary", "--data=shapes", f"--out={tmp_path / 'run'}"]
    for option, value in (("classifier", "10"), ("method", "rotnet")):
        assert cli.main(command) == 1
        assert f"--set={option}=VALUE" in capsys.readouterr().err
        command.append(f"--set={option}={value}")
    assert not (tmp_path / "run").exists()
