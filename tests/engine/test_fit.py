"""`fit` and `evaluate`: sources by name, work between epochs, clock, held-out images, clipping."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import Clusters, Follower, OwnNetwork, images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import data, optimizers
from keras_ssl.engine import SSLModel, inputs, optimizer


def simclr():
    return keras_ssl.SimCLR(tiny_backbone())


def sgd(model, rate=0.05, **kwargs):
    model.compile(keras.optimizers.SGD(rate, **kwargs))
    return model


def state(model):
    return [np.array(v) for v in [*model.weights, *model.optimizer.variables]]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


# --- Sources by name


def test_a_folder_is_loaded_from_its_path(tmp_path):
    for i, image in enumerate(images(16)):
        keras.utils.save_img(tmp_path / f"{i:02d}.png", image, scale=False)
    losses = []
    for x in (tmp_path, str(tmp_path), data.from_folder(tmp_path)):
        keras.utils.set_random_seed(0)
        losses.append(sgd(simclr()).fit(x, batch_size=8, verbose=0).history["loss"])
    assert losses[0] == losses[1] == losses[2]


def test_shapes_are_drawn_at_the_size_of_the_backbone():
    model = sgd(keras_ssl.SimCLR(tiny_backbone((24, 24, 3))))
    model.fit("shapes", batch_size=16, steps_per_epoch=2, verbose=0)
    assert int(model.step) == 2


def test_a_tfds_name_is_loaded(real_data, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(real_data / "tfds"))
    monkeypatch.setattr(data.tfds_reader, "_IN_MEMORY", 0)  # not all 50,000 images are needed
    model = sgd(keras_ssl.SimCLR(tiny_backbone((32, 32, 3))))
    model.fit("cifar10", batch_size=16, steps_per_epoch=2, verbose=0)
    assert int(model.step) == 2


# --- Work between epochs


class Recorded(Clusters):
    """Notes what `begin_epoch` was given, and the step at which."""

    def begin_epoch(self, source):
        self.seen.append((source, int(self.step)))
        super().begin_epoch(source)


def recorded():
    model = sgd(Recorded(tiny_backbone(), 48))
    model.seen = []
    return model


def test_begin_epoch_comes_before_the_first_batch_of_every_epoch():
    model, source = recorded(), data.load(images(48))
    model.fit(source, batch_size=16, epochs=3, verbose=0)
    assert model.seen == [(source, 0), (source, 3), (source, 6)]
    model.fit(source, batch_size=16, epochs=5, initial_epoch=4, verbose=0)
    assert model.seen[3:] == [(source, 9)]


def test_begin_epoch_comes_before_other_callbacks():
    model, order = recorded(), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda e, logs: order.append(model.seen[-1][1])
    )
    model.fit(images(48), batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    assert order == [0, 3]


def test_assignments_are_made_from_the_features_of_all_images():
    model, x = recorded(), images(48)
    score = np.array(model.encode(x)) @ np.cos(np.arange(8))
    model.fit(x, batch_size=16, verbose=0)
    expected = np.argsort(np.argsort(score)) * 4 // 48
    np.testing.assert_array_equal(model.assignments, expected)


def test_ready_batches_have_no_source():
    stream = data.stream(data.load(images(48)), recorded().default_views((8, 8)), 16, seed=0)
    with pytest.raises(ValueError, match="Clusters needs images.*ready batches"):
        recorded().fit(stream, steps_per_epoch=3, verbose=0)


# --- The clock


def test_the_clock_counts_steps_and_epochs():
    model = sgd(simclr())
    assert int(model.step) == float(model.epoch) == float(model.progress) == 0
    model.fit(images(48), batch_size=16, epochs=2, verbose=0)
    assert [int(model.step), int(model.total_steps), int(model.steps_per_epoch)] == [6, 6, 3]
    assert float(model.epoch) == 2.0 and float(model.progress) == 1.0
    model.fit(images(48), batch_size=16, epochs=6, initial_epoch=2, verbose=0)
    assert [int(model.step), int(model.total_steps)] == [18, 18]


def test_accumulated_batches_are_one_step():
    model = sgd(simclr(), gradient_accumulation_steps=2)
    model.fit(images(64), batch_size=16, epochs=2, verbose=0)
    assert [int(model.step), int(model.total_steps), int(model.steps_per_epoch)] == [4, 4, 2]


def test_a_new_optimizer_starts_the_clock_anew():
    model = sgd(simclr())
    model.fit(images(32), batch_size=16, verbose=0)
    sgd(model).fit(images(32), batch_size=16, verbose=0)
    assert int(model.step) == int(model.total_steps) == 2


def test_the_default_optimizer_may_read_the_epoch():
    seen = {}

    class Reading(Follower):
        def default_optimizer(self, total_steps, batch_size):
            seen.update(total=total_steps, epoch=int(self.steps_per_epoch), batch=batch_size)
            return keras.optimizers.SGD(0.01)

    Reading(tiny_backbone()).fit(images(48), batch_size=16, epochs=4, verbose=0)
    assert seen == {"total": 12, "epoch": 3, "batch": 16}


# --- Held-out images


def test_validation_logs_losses_of_held_out_images():
    model, held_out = sgd(simclr()), images(40, seed=1)
    history = model.fit(
        images(32), batch_size=16, epochs=4, verbose=0, validation_data=held_out, validation_freq=2
    ).history
    assert len(history["loss"]) == 4 and len(history["val_loss"]) == 2
    found = model.evaluate(held_out, batch_size=16, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(found, abs=1e-6)


def test_validation_changes_nothing_of_the_training():
    runs = []
    for held_out in (None, images(24, seed=1)):
        keras.utils.set_random_seed(0)
        model = sgd(keras_ssl.MoCo(tiny_backbone(), queue_size=40))
        history = model.fit(
            images(32), batch_size=16, epochs=3, verbose=0, validation_data=held_out
        ).history
        runs.append((history["loss"], state(model)))
    assert runs[0][0] == runs[1][0] and same(runs[0][1], runs[1][1])


def test_the_same_views_are_seen_at_every_validation():
    """With a learning rate of 0 and no state in the loss, the losses stay the same."""
    model = sgd(OwnNetwork((8, 8, 3)), rate=0.0)
    history = model.fit(
        images(32), batch_size=16, epochs=3, verbose=0, validation_data=images(24, seed=1)
    ).history
    assert len(set(history["val_loss"])) == 1


def test_callbacks_can_read_validation_losses():
    model, seen = sgd(simclr()), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(logs["val_loss"])
    )
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9)
    model.fit(
        images(32),
        batch_size=16,
        epochs=9,
        verbose=0,
        validation_data=images(16),
        callbacks=[watch, stop],
    )
    assert len(seen) == 2


def test_fewer_held_out_images_than_a_batch_make_one_smaller_batch():
    history = (
        sgd(simclr())
        .fit(images(32), batch_size=16, verbose=0, validation_data=images(6, seed=1))
        .history
    )
    assert np.isfinite(history["val_loss"]).all()


def test_evaluate_needs_no_compile_and_leaves_none():
    model = simclr()
    found = model.evaluate(images(32), batch_size=16, verbose=0, return_dict=True)
    assert set(found) == {"loss"} and np.isfinite(found["loss"]) and not model.compiled
    model.fit(images(32), batch_size=16, verbose=0)
    assert type(model.optimizer) is keras.optimizers.Adam


def test_evaluate_is_the_mean_loss_of_the_batches_in_inference_mode():
    model, batches = sgd(simclr()), ready_batches(32, 16)
    expected = np.mean([float(model.compute_losses(b, training=False)["loss"]) for b in batches])
    assert model.evaluate(batches, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_images_without_a_row_are_refused():
    model = sgd(keras_ssl.InstDisc(tiny_backbone(), 48))
    with pytest.raises(ValueError, match="num_images=48 and 20 images.*have no row"):
        model.fit(images(48), batch_size=16, verbose=0, validation_data=images(20))
    assert int(model.step) == 0


def test_labels_of_held_out_images_reach_methods_that_read_them():
    model = sgd(keras_ssl.SupCon(tiny_backbone()), rate=0.001)
    labels = np.arange(32) % 4
    history = model.fit(
        images(32),
        labels,
        batch_size=16,
        verbose=0,
        validation_data=(images(16, seed=1), labels[:16]),
    ).history
    assert np.isfinite(history["val_loss"]).all()


# --- Defaults and checks, once


def test_the_default_batch():
    source = data.load(images(40))
    assert inputs.batch_size_for(source) == 40 and inputs.batch_size_for(source, 7) == 7
    batched = data.load(tf.data.Dataset.from_tensor_slices(images(40)).batch(8))
    assert inputs.batch_size_for(batched) == 8


def test_short_runs_may_have_batches_of_their_own():
    source, short = data.load(images(40)), optimizers.ShortRun(below=50, learning_rate=1e-3)
    assert inputs.batch_size_for(source, None, short, 10) == 40
    small = dataclasses.replace(short, batch_size=8)
    assert inputs.batch_size_for(source, None, small, 9) == 8  # 45 steps
    assert inputs.batch_size_for(source, None, small, 10) == 40  # 50 would be no short run
    assert inputs.batch_size_for(source, 20, small, 9) == 20
    assert inputs.batch_size_for(source, None, dataclasses.replace(small, batch_size=64), 9) == 40
    batched = data.load(tf.data.Dataset.from_tensor_slices(images(40)).batch(10))
    assert inputs.batch_size_for(batched, None, small, 9) == 10


def test_fit_takes_the_batches_of_short_runs_and_says_so(capsys):
    model = keras_ssl.SimCLR(tiny_backbone())
    model.short_run = optimizers.ShortRun(below=100, learning_rate=1e-3, batch_size=8)
    model.fit(images(24), epochs=2)
    assert "Adam for a run of 6 steps of 8 images" in capsys.readouterr().out
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize(
    "batch, message",
    [
        (1, "at least 2: a batch of one"),
        (0, "at least 2"),
        (33, "number of images.*batch_size=33 and 32 images"),
        (8.0, "must be an integer.*8.0"),
        (True, "must be an integer"),
        ("8", "must be an integer"),
    ],
)
def test_wrong_batch_sizes(batch, message):
    with pytest.raises(ValueError, match=message):
        simclr().fit(images(32), batch_size=batch, verbose=0)


# --- Hooks


def test_hooks_are_declared_and_asked_for():
    class Bare(SSLModel):
        pass

    hooks = ("begin_epoch", "embed", "reconstruct", "sample", "log_prob", "interpolate", "mask")
    assert not any(Bare().can(hook) for hook in hooks)
    with pytest.raises(NotImplementedError, match="Bare has no samples.*`sample`"):
        Bare().sample(3)
    with pytest.raises(ValueError, match="`hook` must be one of.*'fly'"):
        Bare().can("fly")
    vae = keras_ssl.VAE(tiny_backbone(), latent_dim=4)
    assert [vae.can(hook) for hook in hooks] == [False, False, True, True, True, True, False]
    assert not keras_ssl.VAE(tiny_backbone(), latent_dim=4, likelihood="bernoulli").can("log_prob")
    assert simclr().can("embed") and Clusters(tiny_backbone(), 8).can("begin_epoch")


def test_methods_with_a_network_of_their_own_are_created():
    model = keras_ssl.create(OwnNetwork, input_shape=(8, 8, 3), width=5)
    assert model.image_shape == (8, 8, 3) and model.width == 5
    shared = {id(v) for v in model.backbone.weights}
    assert shared and shared < {id(v) for v in model.network.weights}
    with pytest.raises(ValueError, match="OwnNetwork brings its own network.*'resnet18'"):
        keras_ssl.create(OwnNetwork, input_shape=(8, 8, 3), backbone="resnet18")


def test_the_main_job_takes_a_network_of_its_own(tmp_path):
    settings = {"epochs": 1, "batch_size": 16, "precision": "float32", "verbose": 0}
    run = keras_ssl.pretrain(OwnNetwork, images(32), tmp_path / "run", **settings)
    pixels = images(4)
    loaded = tf.saved_model.load(str(run.encoder))
    np.testing.assert_allclose(loaded.serve_uint8(pixels), run.model.encode(pixels), atol=1e-5)
    assert "bits_per_dim" in run.metrics[-1]


# --- Clipping on one device


@pytest.mark.parametrize(
    "limit", [{"clipnorm": 0.01}, {"global_clipnorm": 0.01}, {"clipvalue": 1e-3}]
)
def test_clipping_is_keras_own_on_one_replica(limit):
    """`clip`, which several replicas use, gives on one what Keras' optimizer gives by itself."""
    model = sgd(Follower(tiny_backbone()), 1.0, **limit)
    batch = next(iter(ready_batches(16, 16)))
    values = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = model.compute_losses(batch, training=True)["loss"]
    gradients = tape.gradient(loss, values)
    before = [np.array(v) for v in values]
    model.optimizer.apply(gradients, model.trainable_variables)
    for old, new, cut in zip(before, values, optimizer.clip(gradients, model.optimizer)):
        np.testing.assert_allclose(old - np.array(new), cut, atol=1e-7)


def test_clipping_keeps_overflows_and_missing_gradients():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, clipvalue=1.0))
    scaled.build(sgd(simclr()).trainable_variables)
    scale = float(scaled.initial_scale)
    gradients = [tf.constant([2.0 * scale, np.inf, 0.5 * scale]), None]
    cut, nothing = optimizer.clip(gradients, scaled)
    assert nothing is None
    np.testing.assert_array_equal(cut, [scale, np.inf, 0.5 * scale])
