"""Runs that begin with an encoder, with settings of the user's own, and that end early."""

import json

import keras
import numpy as np
import pytest
import toys

import keras_ssl
from keras_ssl import data, optimizers
from keras_ssl.runs.folder import has_stalled
from keras_ssl.runs.plugins import imported
from keras_ssl.runs.pretrain import _worse

SOURCE = data.from_array(toys.images(32), np.arange(32) % 2)
SMALL = {"epochs": 1, "batch_size": 16, "verbose": 0, "precision": "float32", "monitor": False}


class Seen(keras.callbacks.Callback):
    """A callback of the user's own."""

    logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(sorted(logs))


OBJECT = Seen()


@pytest.fixture
def encoder(tmp_path):
    backbone = keras_ssl.backbones.small_conv((8, 8, 3), widths=(4, 8))
    keras_ssl.export_encoder(backbone, tmp_path / "encoder.keras")
    return tmp_path / "encoder.keras"


def test_a_run_goes_on_from_an_encoder_with_settings_of_the_users_own(encoder, tmp_path):
    start = keras_ssl.load_encoder(encoder).get_weights()
    options = {"weights": encoder, "learning_rate": 1e-7, "callbacks": [Seen()], **SMALL}
    run = keras_ssl.pretrain("simclr", SOURCE, tmp_path / "run", **options)
    moved = [np.abs(a - b).max() for a, b in zip(start, run.model.backbone.get_weights())]
    kernels = [m for m, w in zip(moved, start) if w.ndim == 4]
    assert 0 < max(kernels) < 1e-5  # it began there, and the rate was ours
    assert Seen.logs and "loss" in Seen.logs[0] and "knn" in Seen.logs[0]
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["optimizer"]["learning_rate"] == 1e-7 and "Yours" in record["optimizer"]["note"]

    # What that run left is a start in its turn; another start makes another run.
    again = keras_ssl.pretrain("byol", SOURCE, tmp_path / "two", weights=run.out, **SMALL)
    with pytest.raises(ValueError, match="holds another run .*weights"):
        keras_ssl.pretrain("simclr", SOURCE, run.out, **{**options, "weights": again.out})


def test_what_is_trained_already_is_trained_gently(encoder, tmp_path):
    run = keras_ssl.pretrain(
        "simclr", SOURCE, tmp_path / "run", weights=encoder, layer_decay=0.5, **SMALL
    )
    record = json.loads((run.out / "config.json").read_text())["optimizer"]
    assert (record["choice"], record["class"], record["layer_decay"]) == ("gentle", "AdamW", 0.5)
    assert "kept" in record["note"]
    factors = dict(
        zip((v.path for v in run.model.trainable_variables), run.model.optimizer.factors)
    )
    stages = {path.split("_")[0]: f for path, f in factors.items() if path.startswith("stage")}
    assert stages == {"stage1": 0.25, "stage2": 0.5} and 1.0 in factors.values()
    new = keras_ssl.pretrain(
        "simclr", SOURCE, tmp_path / "new", backbone=keras_ssl.load_encoder(encoder), **SMALL
    )
    assert type(new.model.optimizer) is keras.optimizers.Adam  # whose weights, is not known


WRONG = {
    "layers at rates of their own": (
        {"layer_decay": 0.5, "optimizer": "paper"},
        "optimizer=gentle",
    ),
    "a share of a rate": ({"layer_decay": 1.5}, "`layer_decay` must be in (0, 1]"),
    "a backbone too": ({"backbone": "resnet18"}, "bring their own network"),
    "channels": ({"data": data.from_array(toys.images(32, (8, 8, 1)))}, "an encoder for 3"),
    "size": ({"image_size": 16}, "must be that of the backbone"),
    "a path of no callback": ({"callbacks": "keras:Model"}, "callbacks"),
    "no path": ({"callbacks": "Seen"}, "module:name"),
    "patience": ({"early_stopping": 0}, "`early_stopping` must be a positive integer"),
    "a rate": ({"learning_rate": float("nan")}, "`learning_rate` must be a number > 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_starts_that_do_not_fit_are_refused(encoder, tmp_path, case):
    changed, message = WRONG[case]
    settings = {"data": SOURCE, "weights": encoder, **SMALL, **changed}
    with pytest.raises(ValueError) as raised:
        keras_ssl.pretrain("simclr", out=tmp_path / "run", **settings)
    assert message in str(raised.value)


def test_a_saved_model_is_no_start(encoder, tmp_path):
    saved = keras_ssl.export_encoder(keras_ssl.load_encoder(encoder), tmp_path / "saved")
    with pytest.raises(ValueError, match="Received: the SavedModel"):
        keras_ssl.pretrain("simclr", SOURCE, tmp_path / "run", weights=saved, **SMALL)


def test_a_run_ends_where_nothing_gets_better_and_stays_ended(encoder, tmp_path):
    settings = {**SMALL, "epochs": 30, "early_stopping": 2, "weights": encoder}
    runs = [keras_ssl.pretrain("simclr", SOURCE, tmp_path / "run", **settings) for _ in range(2)]
    first, second = (run.metrics for run in runs)
    assert first == second and 3 <= len(first) < 31
    assert has_stalled(first, 2) and not has_stalled(first[:-1], 2)
    assert (tmp_path / "run" / "checkpoints" / f"epoch-{len(first) - 1:05d}").is_dir()


def test_stalling_is_read_off_the_rows():
    rows = [{"epoch": 0, "knn": 0.9}, *({"epoch": e, "loss": 1.0 / e} for e in (1, 2, 3))]
    assert not has_stalled(rows, 1)  # the loss falls
    rows += [{"epoch": 4, "loss": 0.5}]
    assert has_stalled(rows, 1) and not has_stalled(rows, 2) and not has_stalled(rows, None)
    scored = [{"epoch": e, "loss": -e, "knn": knn} for e, knn in enumerate((0.9, 0.2, 0.4, 0.4))]
    assert has_stalled(scored, 1) and not has_stalled(scored[:3], 1)


def test_an_encoder_that_got_worse_is_named():
    assert _worse([{"knn": 0.4}, {"knn": 0.4}]) == {} == _worse([{}, {}])
    (text,) = _worse([{"knn": 0.5}, {"knn": 0.4}]).values()
    assert "fell from 0.500 to 0.400" in text and "learning rate" in text


def test_callbacks_are_imported_by_path():
    path = f"{__name__}:Seen, {__name__}:OBJECT"
    first, second = imported(path)
    assert isinstance(first, Seen) and second is OBJECT
    assert imported(None) == [] and imported([OBJECT]) == [OBJECT] == imported(OBJECT)


def test_adjusted_optimizers_keep_what_was_not_given():
    model = keras_ssl.BiGAN(keras_ssl.backbones.small_conv((32, 32, 3), widths=(4, 8)))
    players = optimizers.adjusted(model.default_optimizer(100, 16), learning_rate=0.5).players
    assert all(np.isclose(float(p._learning_rate(0)), 0.5) for p in players.values())
    schedule = optimizers.WarmupCosine(0.1, 100, 10)
    changed = optimizers.adjusted(optimizers.LARS(schedule, weight_decay=0.2), weight_decay=0.3)
    assert changed.get_config()["weight_decay"] == 0.3
    assert float(changed._learning_rate(10)) == pytest.approx(0.1)
