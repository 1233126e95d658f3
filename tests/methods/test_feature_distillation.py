"""FeatureDistillation: the frozen teacher and where it is kept, the queue, the objectives."""

import json
import shutil
import sys
from unittest import mock

import keras
import numpy as np
import pytest
from contract.cases import frozen
from keras import ops
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import cli, losses, views
from keras_ssl.methods import feature_distillation
from keras_ssl.ops import l2_normalize
from keras_ssl.runs import teachers

RUN = {"batch_size": 16, "verbose": 0, "monitor": False}


def distillation(teacher=None, rate=0.1, **kwargs):
    keras.utils.set_random_seed(1)
    kwargs = kwargs if "objective" in kwargs else {"queue_size": 40, **kwargs}
    model = keras_ssl.FeatureDistillation(
        tiny_backbone(), frozen() if teacher is None else teacher, **kwargs
    )
    model.compile(keras.optimizers.SGD(rate))
    return model


def tiny_transformer():
    return keras_ssl.backbones.vit(8, 1, 2, (8, 8, 3))


def batch(seed=0):
    """Sixteen images in one view."""
    found = next(iter(ready_batches(16, 16, seed=seed)))
    return {"views": found["views"][:1]}


def stream(steps):
    """So many ready batches."""
    return ready_batches(16 * steps, 16).map(lambda b: {"views": b["views"][:1]})


def student_of(model, view):
    return model.projector(model.backbone(view, training=True), training=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A teacher, and the files that hold it: `.keras`, SavedModel, run folder."""
    teacher, folder = frozen(), tmp_path_factory.mktemp("teachers") / "files"
    (folder / "run").mkdir(parents=True)
    keras_ssl.export_encoder(teacher, folder / "saved")
    keras_ssl.export_encoder(teacher, folder / "teacher.keras")
    shutil.copy(folder / "teacher.keras", folder / "run" / "encoder.keras")
    (folder / "run" / "config.json").write_text("{}")
    return teacher, folder


@pytest.fixture
def files(written, tmp_path):
    """The same in a folder of the test's own."""
    teacher, folder = written
    return teacher, shutil.copytree(folder, tmp_path / "files")


def test_loss_reads_the_queue_before_the_teachers_features_enter():
    model, b = distillation(teacher_temperature=0.1), batch()
    before = model.queue.keys.numpy()
    student, teacher = student_of(model, b["views"][0]), model.teacher(b["views"][0])
    expected = losses.similarity_cross_entropy(student, teacher, before, 0.2, 0.1)
    found = float(model.compute_losses(b, training=True)["loss"])
    assert found == pytest.approx(float(expected), rel=1e-5)
    after = model.queue.keys.numpy()
    np.testing.assert_allclose(after[:16], l2_normalize(teacher), atol=1e-5)
    np.testing.assert_array_equal(after[16:], before[16:])
    model.compute_losses(b, training=False)
    np.testing.assert_array_equal(model.queue.keys.numpy(), after)


@pytest.mark.parametrize("objective, unit", [("cosine", True), ("mse", False)])
def test_regressions_by_the_formula(objective, unit):
    model, b = distillation(objective=objective), batch()
    student, teacher = student_of(model, b["views"][0]), model.teacher(b["views"][0])
    student, teacher = (l2_normalize(x) if unit else x for x in (student, teacher))
    distance = np.square(np.array(student) - np.array(teacher))
    expected = distance.sum(1).mean() if unit else distance.mean()
    found = model.compute_losses(b, training=True)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not hasattr(model, "queue") and model.queue_size is None
    lengths = ops.norm(model.embed(images(4)), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == unit


@pytest.mark.parametrize("objective", feature_distillation.OBJECTIVES)
def test_a_student_that_is_the_teacher_has_the_smallest_loss(objective):
    """The teacher's own weights and no head: entropy for "seed", else 0; and no gradient."""
    import tensorflow as tf

    teacher = frozen()
    student = keras_ssl.backbones.Backbone.from_config(teacher.get_config())
    student.set_weights(teacher.get_weights())
    identity = keras.Sequential([keras.Input((6,)), keras.layers.Identity()])
    same = {"temperature": 0.1, "teacher_temperature": 0.1, "queue_size": 40}
    model = keras_ssl.FeatureDistillation(
        student, teacher, objective, identity, **(same if objective == "seed" else {})
    )
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch(), training=False)["loss"]
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert max(np.abs(g).max() for g in gradients if g is not None) < 1e-4
    if objective != "seed":
        assert float(loss) == pytest.approx(0, abs=1e-6)


def kl(student, teacher, temperature):
    p, q = (ops.softmax(np.array(x) / temperature, axis=-1) for x in (teacher, student))
    return np.sum(p * np.log(np.array(p) / np.array(q)), axis=-1)


def test_similarities_to_the_queue_and_among_places_by_the_formula():
    model, b = distillation(objective="queue", temperature=0.2, queue_size=40), batch()
    (view,), before = b["views"], model.queue.keys.numpy()
    own, theirs = model.backbone.feature_map(view, training=True), model.teacher.feature_map(view)
    own = model.projector(np.reshape(own, (-1, own.shape[-1])))
    own, theirs = (np.reshape(x, (16, -1, 6)) for x in (own, theirs))  # (N, places, width)
    s, t = (l2_normalize(x.mean(axis=1)) for x in (own, theirs))  # the projector is linear
    expected = kl(s @ before.T, t @ before.T, 0.2).mean()
    s, unit = (np.array(l2_normalize(x)) for x in (own, theirs))
    expected += kl(s @ s.transpose(0, 2, 1), unit @ unit.transpose(0, 2, 1), 0.2).mean()
    found = model.compute_losses(b, training=True)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(model.queue.keys.numpy()[:16], t, atol=1e-5)


@pytest.mark.parametrize("kind", ["another grid", "vectors", "class token"])
def test_places_of_other_networks(kind):
    """Grids that differ are resized; without places the first term is all."""
    teacher = {
        "another grid": lambda: frozen((12, 12, 3)),
        "vectors": lambda: keras_ssl.backbones.adopt(
            keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        ),
        "class token": tiny_transformer,
    }[kind]()
    model = distillation(teacher, objective="queue", queue_size=40)
    student, taught = model._pooled_and_places(batch()["views"][0], False)
    assert [x.shape for x in student] == [x.shape for x in taught]
    assert len(taught) == (1 if kind == "vectors" else 2)
    model.fit(stream(2), verbose=0)
    assert np.isfinite(float(model.compute_losses(batch(), training=False)["loss"]))


def test_the_teacher_stays_as_it_is_and_so_does_the_callers_model():
    teacher = frozen()
    model = distillation(teacher)
    before = [np.array(w) for w in teacher.weights]
    model.fit(stream(3), verbose=0)
    for old, own, kept in zip(before, teacher.weights, model.teacher.weights):
        np.testing.assert_array_equal(old, own)
        np.testing.assert_array_equal(old, kept)  # moving statistics, too
    assert teacher.trainable_variables and not model.teacher.trainable_variables
    # The same network can be both: it is copied.
    both = keras_ssl.FeatureDistillation(teacher, teacher, queue_size=40)
    assert len(both.backbone.trainable_variables) == len(teacher.trainable_variables) > 0


def test_student_and_teacher_see_the_same_view_at_their_own_sizes():
    seen = []
    model = distillation(frozen((12, 10, 3)), objective="cosine")
    network = model.teacher
    model._network = lambda: seen.append(network) or Spy(network, seen)
    (view,) = batch()["views"]
    model.compute_losses({"views": (view,)}, training=True)
    expected = ops.image.resize(view, (12, 10), interpolation="bilinear", antialias=True)
    np.testing.assert_allclose(seen[-1][0], expected, atol=1e-6)
    assert seen[-1][1] is False  # inference mode


class Spy:
    def __init__(self, network, seen):
        self.network, self.seen, self.image_shape = network, seen, network.image_shape

    def __call__(self, x, training):
        self.seen.append((x, training))
        return self.network(x, training=training)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("file", ["teacher.keras", "saved", "run"])
def test_a_teacher_from_a_file_gives_the_features_of_its_encoder(written, file, policy):
    """In its own number format, whatever the run's."""
    teacher, folder = written
    keras.config.set_dtype_policy(policy)
    model, (view,) = distillation(folder / file), batch()["views"]
    np.testing.assert_allclose(model._taught(view), teacher(view), atol=1e-5)
    assert model.keep_teacher == (file != "saved")
    before = model._network().get_weights()
    model.fit(stream(2), verbose=0)
    for old, new in zip(before, model._network().get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_kept_teacher_needs_its_file_once(files):
    teacher, folder = files
    model = distillation(folder / "teacher.keras")
    (folder / "teacher.keras").unlink()
    model.fit(stream(2), verbose=0)
    model.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")
    assert again.keep_teacher and again.teacher.name == model.teacher.name == "teacher_large"
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    (view,) = batch()["views"]
    np.testing.assert_allclose(again._taught(view), teacher(view), atol=1e-5)
    assert not again.teacher.trainable_variables


@pytest.mark.parametrize("file", ["teacher.keras", pytest.param("saved", marks=pytest.mark.slow)])
def test_a_teacher_named_by_its_path_is_not_saved_and_is_checked(files, file):
    """The weights hold its checksum alone; another teacher in its place is refused."""
    teacher, folder = files
    model = distillation(str(folder / file), keep_teacher=False)
    size = distillation(teacher).count_params() - teacher.count_params()
    assert model.count_params() == size + 8  # the checksum
    model.fit(stream(2), verbose=0)
    model.save(folder / "model.keras")
    model.save_weights(folder / "state.weights.h5")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))["config"]
    assert (config["teacher"], config["keep_teacher"]) == (str(folder / file), False)
    again = keras.saving.load_model(folder / "model.keras")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    other = frozen()
    other.set_weights([w + 0.01 for w in teacher.get_weights()])
    keras_ssl.export_encoder(other, folder / file)
    with pytest.raises(ValueError, match="another `teacher`.*another checksum"):
        keras.saving.load_model(folder / "model.keras")
    fresh = distillation(str(folder / file), keep_teacher=False)
    with pytest.raises(ValueError, match="another `teacher`"):
        fresh.load_weights(folder / "state.weights.h5")


def test_checksums_are_those_of_the_weights(files):
    """Whatever file they are read from; one number that differs is enough."""
    teacher, folder = files
    known = feature_distillation.checksum(teacher)
    for file in ("teacher.keras", "run"):
        network = keras_ssl.load_encoder(folder / file)
        np.testing.assert_array_equal(feature_distillation.checksum(network), known)
    other, weights = frozen(), teacher.get_weights()
    other.set_weights(weights)
    np.testing.assert_array_equal(feature_distillation.checksum(other), known)
    weights[0].flat[0] = np.nextafter(weights[0].flat[0], np.float32(9))
    other.set_weights(weights)
    assert (feature_distillation.checksum(other) != known).any()


def test_a_run_folder_holds_a_copy_of_what_the_model_holds(files):
    teacher, folder = files
    out, path = folder / "out", str(folder / "teacher.keras")
    out.mkdir()
    cls = keras_ssl.FeatureDistillation
    assert teachers.given(cls, {"teacher": path}, out) == {"teacher": path}
    teachers.keep(distillation(path, keep_teacher=False), out)
    assert not list(out.iterdir())
    teachers.keep(distillation(path), out)
    given = teachers.given(cls, {"teacher": path, "queue_size": 9}, out)
    assert given == {"teacher": str(out / "teacher.keras"), "queue_size": 9}
    known = feature_distillation.checksum(teacher)
    network = keras_ssl.load_encoder(given["teacher"])
    np.testing.assert_array_equal(feature_distillation.checksum(network), known)


@pytest.mark.slow
def test_a_run_keeps_its_teacher(files):
    """The same command goes on without the file; the copy is the teacher, whatever lies there."""
    teacher, folder = files
    path, out = folder / "teacher.keras", folder / "out"
    options = {"teacher": path, "objective": "cosine"}

    def run(epochs):
        student = keras_ssl.backbones.small_conv((8, 8, 3), (4,))
        module = sys.modules["keras_ssl.runs.pretrain"]  # the package's attribute is the function
        with mock.patch.multiple(module, export_encoder=mock.DEFAULT, report=mock.DEFAULT):
            return keras_ssl.pretrain(
                "feature_distillation",
                images(32),
                out,
                backbone=student,
                epochs=epochs,
                method_options=options,
                **RUN,
            ).model

    run(1)
    recorded = json.loads((out / "config.json").read_text())["method_options"]
    assert recorded == {**options, "teacher": str(path)}
    path.unlink()
    model = run(2)
    assert int(model.step) == 4
    for a, b in zip(teacher.get_weights(), model.teacher.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_default_views_and_the_papers_optimizer():
    model = keras_ssl.FeatureDistillation(tiny_backbone((96, 96, 3)), frozen())
    assert (model.temperature, model.teacher_temperature, model.queue_size) == (0.2, 1e-4, 65_536)
    assert repr(model.default_views((96, 96)).view) == repr(views.moco((96, 96)).first)
    assert [layer.units for layer in model.projector.layers if hasattr(layer, "units")] == [8, 6]
    model.steps_per_epoch.assign(1)
    optimizer = model.paper_optimizer(100, 512)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 100)]
    np.testing.assert_allclose(rates, [0, 0.06, 0], atol=1e-7)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"objective": "kl"}, "`objective` must be one of .*'kl'"),
        ({"temperature": 0.0}, "`temperature` must be > 0.*0.0"),
        ({"teacher_temperature": -1.0}, "`teacher_temperature` must be > 0.*-1.0"),
        ({"queue_size": 0}, "`queue_size` must be > 0.*0"),
        ({"objective": "mse", "queue_size": 8}, "`queue_size` belongs to objective='seed'"),
        ({"teacher": "nowhere"}, "`teacher` must be .*'nowhere'.*nothing"),
        ({"teacher": 3}, "`teacher` must be .*teacher=3"),
        ({"teacher": frozen((8, 8, 1))}, "student's 3 channels.*1 channels"),
        ({"keep_teacher": False}, "must be given by its path.*'large', keep_teacher=False"),
        ({"projector": keras.Sequential([keras.Input((8,)), keras.layers.Dense(5)])}, r"\(6,\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        distillation(**arguments)


def test_a_saved_model_is_not_kept(files):
    _, folder = files
    with pytest.raises(ValueError, match="`keep_teacher` must be False or None for a SavedModel"):
        distillation(folder / "saved", keep_teacher=True)
    with pytest.raises(ValueError, match="must be given by its path"):
        distillation(keras_ssl.load_encoder(folder / "saved"))


def test_a_missing_teacher_is_asked_for(tmp_path, capsys, monkeypatch):
    """By `create`, `pretrain` and the shell, before images are read."""
    asked = "`teacher` of FeatureDistillation must be given: a Keras .* or text or a path"
    with pytest.raises(ValueError, match=asked):
        keras_ssl.create("feature_distillation", (8, 8, 3), "small_conv")
    monkeypatch.setattr(keras_ssl.data, "splits", None)
    for options, message in [
        ({}, asked + ".*no options.*--set=teacher=VALUE"),
        ({"teacher": str(tmp_path / "no")}, "where there is nothing.*holds no copy"),
        ({"teacher": frozen()}, "must be a path.*'large'.*teacher.keras"),
        ({"teacher": None}, "`teacher` of FeatureDistillation must be .*teacher=None"),
    ]:
        with pytest.raises(ValueError, match=message):
            keras_ssl.pretrain(
                "feature_distillation",
                images(32),
                tmp_path / "run",
                method_options=options,
                **RUN,
            )
    assert not (tmp_path / "run").exists()
    assert cli.main(["methods", "--method=feature_distillation"]) == 0
    assert "  teacher (must be given)\n        a keras.Model from images" in capsys.readouterr().out
