"""`fit`, `compile` and export, used from Python."""

import keras
import numpy as np
import tensorflow as tf
import toys
from table import Row

import keras_ssl

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)


def method(optimizer=None, name="SimCLR"):
    model = keras_ssl.create(name, (8, 8, 3), keras_ssl.backbones.small_conv((8, 8, 3), (4, 8)))
    if optimizer is not None:
        model.compile(optimizer)
    return model


def fit(data=IMAGES, optimizer=None, **options):
    return method(optimizer).fit(data, **{"batch_size": 16, "verbose": 0, **options})


def ready(views, unknown_size=False):
    """Ready batches of two equal views."""
    batches = tf.data.Dataset.from_tensors({"views": (views, views)}).repeat(2)
    if not unknown_size:
        return batches
    spec = tf.TensorSpec((None, *views.shape[1:]), views.dtype)
    return tf.data.Dataset.from_generator(
        lambda: batches.as_numpy_iterator(), output_signature={"views": (spec, spec)}
    )


FLOATS = IMAGES[:4].astype("float32") / 255


def dynamic_batches_of_one(_):
    fit(ready(FLOATS[:1], unknown_size=True), batch_size=None, steps_per_epoch=2)


def nan_pixels(_):
    spoilt = FLOATS.copy()
    spoilt[1, 2, 3] = np.nan
    fit(ready(spoilt), batch_size=None)


def nan_in_the_last_step(_):
    def rate(step):
        return keras.ops.where(step >= 1, np.nan, 0.1)

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        __call__ = staticmethod(rate)

    fit(optimizer=keras.optimizers.SGD(Schedule()))


def accumulated(_):
    fit(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=3))


def a_suffix_decides(folder):
    model = method()
    assert model.export_encoder(folder / "e.keras").is_file()
    assert keras.saving.load_model(folder / "e.keras").output_shape == (None, 8)
    assert (model.export_encoder(folder / "e") / "saved_model.pb").exists()


def steps_on_batches(_):
    model = method(keras.optimizers.Adam(1e-2))
    batch = {"views": (FLOATS, FLOATS[:, :, ::-1])}
    losses = [float(model.train_on_batch(batch)) for _ in range(8)]
    assert min(losses[1:]) < losses[0] and int(model.step) == 8
    assert np.isfinite(float(model.test_on_batch(batch)))


def steps_of_two_players(_):
    model = toys.TwoPlayers(toys.tiny_backbone())
    model.compile(keras.optimizers.SGD(1e-2))
    model.train_on_batch({"views": (FLOATS, FLOATS[:, :, ::-1])})
    assert int(model.step) == 1


def a_rate_by_callbacks(_):
    callbacks = keras.callbacks
    history = fit(
        optimizer=keras.optimizers.Adam(1e-3),
        epochs=3,
        callbacks=[callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (1 + epoch))],
    ).history
    np.testing.assert_allclose(history["learning_rate"], [1e-3, 5e-4, 1e-3 / 3], rtol=1e-5)
    plateau = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100, factor=0.5)
    history = fit(optimizer=keras.optimizers.Adam(1e-3), epochs=3, callbacks=[plateau]).history
    assert history["learning_rate"][-1] < 1e-3


def one_events_file(folder):
    fit(epochs=3, callbacks=[keras_ssl.callbacks.TensorBoardScalars(folder)])
    (file,) = folder.iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    assert [event.step for event in events if event.summary.value] == [1, 2, 3]


ROWS = [
    Row(
        "ready batches of one, of unknown size",
        dynamic_batches_of_one,
        ("SimCLR needs at least 2 images a batch", "drop_remainder=True"),
    ),
    Row("ready batches with NaN pixels", nan_pixels, ("finite and lie in [0, 1]", "nan")),
    Row(
        "ready batches of 0 to 255",
        lambda _: fit(ready(FLOATS * 255), batch_size=None),
        ("Divide images in 0 to 255 by 255", "ready batches"),
    ),
    Row(
        "divergence in fit",
        nan_in_the_last_step,
        ("NaN or infinite", "epoch 1", "Lower the learning rate"),
        keras_ssl.callbacks.TrainingDiverged,
    ),
    Row(
        "a learning rate of NaN",
        lambda _: fit(optimizer=keras.optimizers.SGD(float("nan"))),
        ("learning rate must be from 0 to", "nan at step 0", "compile"),
    ),
    Row(
        "a learning rate of 1e30",
        lambda _: fit(optimizer=keras.optimizers.SGD(1e30)),
        ("learning rate must be from 0 to", "1e+30"),
    ),
    Row(
        "accumulation over more batches than the run has",
        accumulated,
        ("`gradient_accumulation_steps` must not exceed", "3 with 2 batches", "more epochs"),
    ),
    Row(
        "compile with a loss",
        lambda _: method().compile("adam", loss="mse"),
        ("`loss` cannot be set", "SimCLR ['loss']", "loss='mse'", "Leave it out"),
    ),
    Row(
        "compile with metrics",
        lambda _: method().compile("adam", metrics=["accuracy"]),
        ("`metrics` cannot be set", "KNNMonitor"),
    ),
    Row("export to a name that ends in .keras", a_suffix_decides),
    Row(
        "export whose format and ending disagree",
        lambda folder: method().export_encoder(folder / "e.keras", format="savedmodel"),
        ("`format` must agree with the ending", "e.keras", "Leave `format` out"),
    ),
    Row("train_on_batch and test_on_batch", steps_on_batches),
    Row("train_on_batch of a method of two players", steps_of_two_players),
    Row(
        "train_on_batch with images",
        lambda _: method("adam").train_on_batch(IMAGES),
        ("dict with the keys ['views']", "ndarray", "keras_ssl.data.stream"),
    ),
    Row("LearningRateScheduler and ReduceLROnPlateau", a_rate_by_callbacks),
    Row(
        "LearningRateScheduler on the default optimizer",
        lambda _: fit(callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3)]),
        ("LearningRateScheduler", "schedule of its own", "model.compile("),
    ),
    Row("one events file for TensorBoard", one_events_file),
]
