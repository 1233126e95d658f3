import keras
import numpy as np
import pytest

from keras_ssl import evaluation
from keras_ssl.callbacks import KNNMonitor
from keras_ssl.callbacks.knn import _part

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 160)
CENTRES = RNG.normal(size=(4, 4, 4, 1))
IMAGES = (CENTRES[LABELS] + RNG.normal(size=(160, 4, 4, 1))).astype(np.float32)
TRAIN, TEST = (IMAGES[:120], LABELS[:120]), (IMAGES[120:], LABELS[120:])


class Toy(keras.Model):
    """A linear layer on pixels that regresses the label: its features get better."""

    def __init__(self):
        super().__init__()
        self.backbone = keras.Sequential(
            [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
        )

    def call(self, images):
        return self.backbone(images)

    def encode(self, images):
        return self.backbone(images, training=False)


def fit(model, callbacks, epochs=4, **kwargs):
    if not model.compiled:
        model.compile(keras.optimizers.SGD(0.05), "mse")
    targets = np.eye(4, dtype=np.float32)[TRAIN[1]]
    return model.fit(TRAIN[0], targets, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs)


def test_it_is_the_accuracy_of_the_current_weights():
    model, monitor = Toy(), KNNMonitor(TRAIN, TEST, k=10)
    untrained = evaluation.knn_accuracy(model.encode, TRAIN, TEST, k=10)
    history = fit(model, [monitor], epochs=15).history
    assert monitor.untrained == untrained
    now = evaluation.knn_accuracy(model.encode, TRAIN, TEST, k=10)
    assert history["knn"][-1] == monitor.history[-1]["knn"] == now
    assert type(history["knn"][0]) is float and now > untrained


def test_every_and_the_csv_keep_the_column(tmp_path):
    monitor = KNNMonitor(TRAIN, TEST, every=3)
    fit(Toy(), [monitor, keras.callbacks.CSVLogger(tmp_path / "m.csv")], epochs=6)
    assert [row["epoch"] for row in monitor.history] == [0, 3, 5]
    lines = (tmp_path / "m.csv").read_text().splitlines()
    column = lines[0].split(",").index("knn")
    assert [line.split(",")[column] == "NA" for line in lines[1:]] == [0, 1, 1, 0, 1, 0]


def test_going_on_measures_at_once_but_has_no_untrained_figure():
    model = Toy()
    fit(model, [], epochs=2)
    monitor = KNNMonitor(TRAIN, TEST, every=10)
    fit(model, [monitor], epochs=8, initial_epoch=5)
    assert monitor.untrained is None
    assert [row["epoch"] for row in monitor.history] == [5, 7]


def test_training_does_not_feel_the_monitor():
    weights = []
    for callbacks in ([], [KNNMonitor(TRAIN, TEST)]):
        keras.utils.set_random_seed(3)
        model = Toy()
        fit(model, callbacks)
        weights.append(model.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_features_that_are_not_finite_give_nan():
    model = Toy()
    model.backbone.set_weights([w * np.nan for w in model.backbone.get_weights()])
    assert np.isnan(KNNMonitor(TRAIN, TEST).measure(model))


def test_large_sets_are_cut_to_a_balanced_part():
    labels = np.repeat([0, 1, 2], [700, 200, 20])
    images = np.arange(920)[:, None, None, None]
    part, kept = _part(images, labels, 120)
    assert list(np.bincount(kept)) == [50, 50, 20]
    np.testing.assert_array_equal(labels[part.ravel()], kept)
    np.testing.assert_array_equal(_part(images, labels, 120)[0], part)


def test_images_without_a_label_are_left_out():
    labels = np.where(np.arange(120) % 2, TRAIN[1], -1)
    monitor = KNNMonitor((TRAIN[0], labels), TEST)
    assert len(monitor.train[1]) == 60
    np.testing.assert_array_equal(monitor.train[0], TRAIN[0][1::2])


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`every` must be >= 1"):
        KNNMonitor(TRAIN, TEST, every=0)
    with pytest.raises(ValueError, match="`test` must be a pair"):
        KNNMonitor(TRAIN, (TEST[0], None))
    with pytest.raises(ValueError, match="must hold labelled images"):
        KNNMonitor((TRAIN[0], np.full(120, -1)), TEST)
