"""The frame: what fit takes, what it logs, and the traps of Keras 3 that it must absorb."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import Follower, images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl.engine import SSLModel


def simclr(**kwargs):
    return keras_ssl.SimCLR(tiny_backbone(), **kwargs)


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b, tolerance=0.0):
    return len(a) == len(b) and all(np.allclose(x, y, atol=tolerance, rtol=0) for x, y in zip(a, b))


def test_logged_loss_is_the_loss():
    """Keras would log 0.0 for a key that equals the name of its own tracker."""
    model = simclr()
    model.compile(keras.optimizers.SGD(0.0))
    batches = ready_batches(32, 16)
    expected = np.mean([float(model.compute_losses(b, training=True)["loss"]) for b in batches])
    history = model.fit(batches, epochs=1, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert expected > 1


def test_learns_on_one_repeated_batch():
    model = simclr()
    model.compile(keras.optimizers.Adam(3e-3))
    history = model.fit(ready_batches(16, 16), epochs=15, verbose=0).history["loss"]
    assert history[-1] < history[0] - 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda: images(32),
        lambda: images(32, dtype="float32"),
        lambda: tf.data.Dataset.from_tensor_slices(images(32)),
        lambda: tf.data.Dataset.from_tensor_slices(images(32, dtype="float32")).batch(8),
        lambda: tf.data.Dataset.from_tensor_slices((images(32), np.arange(32))),
        lambda: tf.data.Dataset.from_tensor_slices((images(32), np.arange(32))).batch(8),
        lambda: keras_ssl.data.load(images(32)),
    ],
    ids=["uint8", "float", "dataset", "batched", "labelled", "labelled batched", "source"],
)
def test_fit_without_compile_on_plain_images(make):
    model = simclr()
    before = weights(model)
    history = model.fit(make(), batch_size=8, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["loss"]).all()
    assert type(model.optimizer) is keras.optimizers.Adam  # a short run
    assert int(model.optimizer.iterations) == 8
    assert not same(before, weights(model))


def test_batch_size_of_a_batched_dataset_is_kept():
    model = simclr()
    model.fit(tf.data.Dataset.from_tensor_slices(images(32)).batch(4), epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 8


def test_labels_do_not_matter():
    runs = []
    for labels in (np.zeros(32, int), np.arange(32)):
        keras.utils.set_random_seed(1)
        model = simclr()
        model.fit(images(32), labels, batch_size=16, epochs=1, verbose=0)
        runs.append(weights(model))
    assert same(*runs)


def test_default_schedule_spans_the_run():
    model = simclr()
    model.fit(images(32), batch_size=8, epochs=5, verbose=0)
    rates = [float(model.optimizer._learning_rate(step)) for step in (0, 1, 20)]
    peak = model.short_run.learning_rate
    assert rates[0] == 0 and rates[1] == pytest.approx(peak)
    assert rates[2] == pytest.approx(0, abs=1e-6)


def test_an_ended_schedule_is_not_trained_on_in_silence():
    model = simclr()
    model.fit(images(16), batch_size=8, epochs=2, verbose=0)
    with pytest.warns(UserWarning, match="schedule has ended"):
        model.fit(images(16), batch_size=8, epochs=1, verbose=0)


def test_seed_decides_the_run_and_epochs_differ():
    losses = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(0)
        model = simclr()
        model.compile(keras.optimizers.SGD(0.0))
        losses.append(
            model.fit(images(16), batch_size=16, epochs=2, seed=seed, verbose=0).history["loss"]
        )
    assert losses[0] == losses[1] != losses[2]
    assert losses[0][0] != losses[0][1]


def test_continuing_at_an_epoch_equals_not_stopping():
    def fresh():
        keras.utils.set_random_seed(0)
        model = simclr()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        return model

    whole, halves = fresh(), fresh()
    whole.fit(images(32), batch_size=8, epochs=4, verbose=0)
    halves.fit(images(32), batch_size=8, epochs=2, verbose=0)
    halves.fit(images(32), batch_size=8, epochs=4, initial_epoch=2, verbose=0)
    assert same(weights(whole), weights(halves))


def test_no_retracing_after_the_first_step():
    traces = []

    class Counting(keras_ssl.SimCLR):
        def compute_losses(self, batch, training):
            traces.append(1)
            return super().compute_losses(batch, training)

    model = Counting(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(images(32), batch_size=8, epochs=3, verbose=0)
    first = len(traces)
    model.fit(images(32, seed=1), batch_size=8, epochs=4, initial_epoch=3, verbose=0)
    assert first == len(traces) <= 2


def test_xla_is_off_on_a_cpu_unless_asked_for():
    model = simclr()
    model.fit(images(16), batch_size=8, epochs=1, verbose=0)
    assert model.jit_compile is False
    model.compile(keras.optimizers.SGD(0.1), jit_compile=True)
    assert model.jit_compile is True


def test_gradient_accumulation_averages_gradients():
    """Two batches accumulated are one step along the mean of their gradients."""
    batches = list(ready_batches(32, 16))
    model = Follower(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    start = [np.array(v) for v in model.trainable_variables]
    gradients = []
    for batch in batches:
        with tf.GradientTape() as tape:
            loss = model.compute_losses(batch, training=True)["loss"]
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    teacher = [np.array(w) for w in model.teacher.trainable_weights or model.teacher.weights]
    model.fit(ready_batches(32, 16), epochs=1, verbose=0)
    for before, after, g1, g2 in zip(start, model.trainable_variables, *gradients):
        np.testing.assert_allclose(np.array(after), before - 0.1 * (g1 + g2) / 2, atol=1e-5)
    assert int(model.step) == 1
    kernel, student = model.teacher.weights[0], model.backbone.weights[0]
    np.testing.assert_allclose(
        np.array(kernel), 0.9 * teacher[0] + 0.1 * np.array(student), atol=1e-6
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_with_float32_loss(policy):
    keras.config.set_dtype_policy(policy)
    model = simclr()
    model.compile(keras.optimizers.Adam(3e-3))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    history = model.fit(ready_batches(16, 16), epochs=15, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0] - 0.2
    loss = model.compute_losses(next(iter(ready_batches(16, 16))), training=True)["loss"]
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert model.encode(images(4)).dtype == tf.float32


def test_loss_scaling_skips_an_overflowing_step():
    keras.config.set_dtype_policy("mixed_float16")
    model = simclr()
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1e38)
    )
    before = [np.array(v) for v in model.trainable_variables]
    model.fit(ready_batches(16, 16), epochs=1, verbose=0)
    assert same(before, [np.array(v) for v in model.trainable_variables])
    assert float(model.optimizer.dynamic_scale) < 1e38


def test_teacher_is_not_trained_but_normalises_by_its_batch():
    """`teacher.trainable = False` would freeze its batch statistics too."""
    model = Follower(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.1))
    ids = {id(v) for v in model.trainable_variables}
    assert not ids & {id(v) for v in model.teacher.weights}
    moving = [np.array(w) for w in model.teacher.weights if "moving" in w.path]
    model.fit(ready_batches(16, 16), epochs=1, verbose=0)
    assert not same(moving, [np.array(w) for w in model.teacher.weights if "moving" in w.path])


@pytest.mark.parametrize(
    "make", [simclr, lambda: Follower(tiny_backbone())], ids=["SimCLR", "teacher"]
)
def test_save_load_and_go_on_bit_for_bit(tmp_path, make):
    batches = ready_batches(32, 16)
    model = make()
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 20), momentum=0.9)
    )
    model.fit(batches, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and int(loaded.step) == 4
    for m in (model, loaded):
        m.fit(batches, epochs=2, verbose=0)
    assert same(weights(model), weights(loaded))
    assert same(
        [np.array(v) for v in model.optimizer.variables],
        [np.array(v) for v in loaded.optimizer.variables],
    )


def test_default_optimizer_survives_saving(tmp_path):
    model = simclr()
    model.fit(images(16), batch_size=8, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.get_config()["temperature"] == 0.2


def test_regularizers_are_refused_rather_than_ignored():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, kernel_regularizer="l2")(inputs)
    model = keras_ssl.SimCLR(keras.Model(inputs, x))
    with pytest.raises(ValueError, match="kernel_regularizer"):
        model.fit(images(16), batch_size=8, verbose=0)


def test_wrong_keys_of_losses_are_named():
    class Odd(Follower):
        def compute_losses(self, batch, training):
            return {**super().compute_losses(batch, training), "extra": 0.0}

    model = Odd(tiny_backbone())
    model.compile("sgd")
    with pytest.raises(ValueError, match="loss_names"):
        model.fit(ready_batches(16, 16), verbose=0)


def test_base_class_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="compute_losses"):
        SSLModel().compute_losses({}, True)


@pytest.mark.parametrize(
    "batch, message",
    [
        (
            lambda: tf.data.Dataset.from_tensors({"crops": images(8, dtype="float32")}),
            "crops.*missing: .*views",
        ),
        (lambda: ready_batches(8, 1), "batches of one"),
        (lambda: {"views": 3}, "trains on images"),
        (lambda: None, "trains on images"),
        (lambda: "some/folder", "'some/folder' is neither a folder"),
    ],
    ids=["keys", "one", "dict", "nothing", "path"],
)
def test_wrong_batches_are_explained(batch, message):
    with pytest.raises(ValueError, match=message):
        simclr().fit(batch(), verbose=0)


def test_wrong_images_are_explained():
    with pytest.raises(ValueError, match="3 channels.*1"):
        simclr().fit(images(8, (8, 8, 1)), verbose=0)
    with pytest.raises(ValueError, match="at least 2"):
        simclr().fit(images(8), batch_size=1, verbose=0)
    with pytest.raises(ValueError, match="64.*8"):
        simclr().fit(images(8), batch_size=64, verbose=0)
    bad = images(8, dtype="float32")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        simclr().fit(bad * 255, batch_size=4, verbose=0)
    bad[3, 2, 2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        simclr().fit(bad, batch_size=4, verbose=0)


def test_unusable_images_met_while_training_are_explained(tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices(images(32, dtype="float32") * 3)
    with pytest.raises(ValueError, match=r"^Float images .* lie in \[0, 1\]"):
        simclr().fit(dataset, batch_size=8, verbose=0)
    for i, image in enumerate(images(100)):
        keras.utils.save_img(tmp_path / f"{i:02d}.png", image, scale=False)
    source = keras_ssl.data.from_folder(tmp_path, max_corrupt_fraction=0.02)
    for i in range(1, 40, 2):
        (tmp_path / f"{i:02d}.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"^\d of 100 image files cannot be read"):
        simclr().fit(source, batch_size=8, epochs=3, verbose=0)


def test_diverging_loss_stops_training_and_names_the_step():
    class Poisoned(Follower):
        def compute_losses(self, batch, training):
            losses = super().compute_losses(batch, training)
            bad = keras.ops.equal(self.step, 5)
            return {"loss": keras.ops.where(bad, np.nan, 1.0) * losses["loss"]}

    model = Poisoned(tiny_backbone())
    model.compile(keras.optimizers.SGD(0.01))
    guard = keras_ssl.callbacks.DivergenceGuard()
    with pytest.raises(keras_ssl.callbacks.TrainingDiverged, match="step 2 of epoch 2"):
        model.fit(ready_batches(64, 16), epochs=3, verbose=0, callbacks=[guard])


def test_encode_takes_uint8_and_float_alike():
    model = simclr()
    pixels = images(4)
    np.testing.assert_allclose(
        model.encode(pixels), model.encode(pixels.astype("float32") / 255), atol=1e-6
    )
    assert model.encode(pixels).shape == (4, 8) and model.embed(pixels).shape == (4, 128)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), model.encode(pixels), atol=1e-6)
