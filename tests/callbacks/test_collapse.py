import keras
import numpy as np
import pytest

from keras_ssl.callbacks import CollapseMonitor, collapse
from keras_ssl.evaluation import Verdict

RNG = np.random.default_rng(0)
IMAGES = RNG.random((64, 8, 8, 3)).astype(np.float32)
VIEWS = (IMAGES, np.clip(IMAGES + 0.1 * RNG.normal(size=IMAGES.shape), 0, 1).astype(np.float32))


@pytest.fixture(autouse=True)
def few_steps_will_do(monkeypatch):
    """Runs here are shorter than what the monitor waits for."""
    monkeypatch.setattr(collapse, "SETTLED", 0)


class Toy(keras.Model):
    """Regresses images on themselves; has the two faces that a monitor looks at."""

    def __init__(self):
        super().__init__()
        self.backbone = keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(24)]
        )
        self.projector = keras.Sequential([keras.Input((24,)), keras.layers.Dense(192)])

    def call(self, images, training=None):
        return self.projector(self.backbone(images, training=training), training=training)

    def encode(self, images):
        return self.backbone(images, training=False)

    def embed(self, images):
        return self(images, training=False)

    def can(self, hook):
        return hook == "embed"


def fit(model, callbacks, epochs=3, **kwargs):
    if not model.compiled:
        model.compile(keras.optimizers.SGD(0.01), "mse")
    targets = IMAGES.reshape(64, -1)
    return model.fit(IMAGES, targets, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs)


def test_figures_reach_logs_and_history_as_floats(tmp_path, capsys):
    monitor = CollapseMonitor(IMAGES, VIEWS, batch_size=24)
    csv = keras.callbacks.CSVLogger(tmp_path / "m.csv")
    history = fit(Toy(), [monitor, csv]).history
    for prefix in ("features", "embedding"):
        for name in ("std", "rankme", "effective_rank", "uniformity", "dead", "alignment"):
            values = history[f"{prefix}_{name}"]
            assert len(values) == 3 and all(type(v) is float for v in values)
            assert [row[f"{prefix}_{name}"] for row in monitor.history] == values
    assert [row["epoch"] for row in monitor.history] == [0, 1, 2]
    assert [row["loss"] for row in monitor.history] == history["loss"]
    assert set(monitor.untrained) >= {"features_std", "embedding_rankme"}
    assert "features_std" in (tmp_path / "m.csv").read_text().splitlines()[0]
    assert monitor.verdict.status == "healthy"
    assert capsys.readouterr().out == ""


def test_training_does_not_feel_the_monitor():
    weights = []
    for callbacks in ([], [CollapseMonitor(IMAGES, VIEWS)]):
        keras.utils.set_random_seed(3)
        model = Toy()
        fit(model, callbacks)
        weights.append(model.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


class Sabotage(keras.callbacks.Callback):
    """Ends the spread of features after a given epoch."""

    def __init__(self, epoch, value):
        super().__init__()
        self.epoch, self.value = epoch, value

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self.epoch:
            kernel, bias = self.model.backbone.layers[-1].weights
            kernel.assign(kernel * self.value)
            bias.assign(bias + 1.0)


def test_collapse_is_said_once_in_plain_words(capsys):
    monitor = CollapseMonitor(IMAGES)
    fit(Toy(), [Sabotage(1, 0.0), monitor], epochs=4)
    assert monitor.verdict.status == "collapsed"
    out = capsys.readouterr().out
    assert out.count("Collapse monitor") == 1
    assert "epoch 2: COLLAPSED. All images map to nearly one point" in out


def test_divergence_is_worse_than_collapse_and_does_not_stop_the_monitor(capsys):
    monitor = CollapseMonitor(IMAGES, VIEWS)
    fit(Toy(), [Sabotage(0, np.nan), monitor], epochs=2)
    assert monitor.verdict.status == "diverged"
    assert np.isnan(monitor.history[-1]["features_std"])
    assert np.isnan(monitor.history[-1]["features_alignment"])
    assert "DIVERGED" in capsys.readouterr().out


def test_model_without_projector():
    class Headless(Toy):
        def can(self, hook):
            return False

    monitor = CollapseMonitor(IMAGES)
    fit(Headless(), [monitor], epochs=1)
    assert not any(name.startswith("embedding") for name in monitor.history[0])
    assert monitor.verdict.status in ("healthy", "warning")


def test_untrained_figures_are_of_the_untrained_network_alone():
    model = Toy()
    first = CollapseMonitor(IMAGES)
    fit(model, [first], epochs=1)
    second, third = CollapseMonitor(IMAGES), CollapseMonitor(IMAGES)
    third.untrained = first.untrained
    fit(model, [second, third], epochs=2, initial_epoch=1)
    assert second.untrained is None and third.untrained is first.untrained
    assert isinstance(third.verdict, Verdict) and second.history[0]["epoch"] == 1


def test_every():
    monitor = CollapseMonitor(IMAGES, every=2)
    fit(Toy(), [monitor], epochs=5)
    assert [row["epoch"] for row in monitor.history] == [0, 2, 4]


def test_images_are_capped_and_bad_probes_refused():
    assert len(CollapseMonitor(np.zeros((3000, 2, 2, 1))).images) == 2048
    with pytest.raises(ValueError, match="at least 16 images"):
        CollapseMonitor(IMAGES[:8])
    with pytest.raises(ValueError, match="`views` must differ"):
        CollapseMonitor(IMAGES, (IMAGES, IMAGES))
    with pytest.raises(ValueError, match="same images"):
        CollapseMonitor(IMAGES, (IMAGES, IMAGES[:5]))
    with pytest.raises(ValueError, match="`every` must be >= 1"):
        CollapseMonitor(IMAGES, every=0)


def test_too_early_to_judge_after_a_few_steps(monkeypatch):
    """Moving statistics lag behind: a verdict on them would be about batch normalisation."""
    monkeypatch.setattr(collapse, "SETTLED", 50)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model.compile("sgd")
    model.encode = lambda images: model(np.asarray(images, "float32"))
    model.can = lambda hook: False
    monitor = CollapseMonitor(np.random.default_rng(0).random((32, 8, 8, 3), np.float32))
    monitor.set_model(model)
    monitor.on_epoch_end(0, {})
    assert monitor.verdict.status == "too early" and monitor.verdict.severity == 0
    model.optimizer.iterations.assign(50)
    monitor.on_epoch_end(1, {})
    assert monitor.verdict.status == "healthy"
