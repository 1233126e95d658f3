"""`evaluate`: scores by protocol, one card, in the run's page too."""

import dataclasses
import json

import numpy as np
import pytest
import toys

import keras_ssl
from keras_ssl import cli, data, evaluation, report
from keras_ssl.encoders import BACKBONE
from keras_ssl.evaluation import FineTuned
from keras_ssl.export import save_backbone
from keras_ssl.runs.evaluate import CARD, show_again


def coloured(count, seed=0):
    labels = np.arange(count) % 3
    images = toys.images(count, seed=seed) // 2
    images[np.arange(count), :, :, labels] += 60
    return data.from_array(images, labels)


@pytest.fixture
def run(tmp_path):
    """What evaluation looks at of a run folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    backbone = keras_ssl.backbones.small_conv((8, 8, 3), widths=(4, 8))
    save_backbone(backbone, folder / BACKBONE)
    report.write_report(folder / "report.html", title="a run", settings={}, metrics=[])
    return folder


def tuned(encoder, train, test, *, rows=None, seed=0):
    """In the place of `fine_tune`, which has its own tests: accuracies tell what it was given."""
    count = train.size if rows is None else len(rows)
    return FineTuned(0.001 * count + 0.1 * seed, count, 1, 8, 1e-3, encoder)


def test_all_protocols_stand_on_the_card_and_on_the_page(run, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "fine_tune", tuned)
    settings = {"test": coloured(30, 1), "fractions": "0.1,0.5", "draws": 2}
    every = "knn,linear,layers,lowshot,finetune"
    card = keras_ssl.evaluate(run, coloured(60), protocols=every, **settings)
    assert list(card.scores) == every.split(",")
    for name in ("knn", "linear"):
        assert set(card.scores[name]) == {"encoder", "random"}
        assert all(0 <= score <= 1 for score in card.scores[name].values())
    assert (
        list(card.scores["layers"])[-1]
        == list(keras_ssl.backbones.stages(keras_ssl.load_encoder(run)))[-1]
    )
    assert card.scores["finetune"] == {"fine-tuned": 0.06, "from scratch": 0.06}
    assert card.scores["lowshot"]["10%"]["fine-tuned"]["draws"] == pytest.approx([0.006, 0.106])
    assert set(card.scores["lowshot"]) == {"10%", "50%"}
    for kinds in card.scores["lowshot"].values():
        assert set(kinds) == {"linear", "linear, random", "fine-tuned", "from scratch"}
        for spread in kinds.values():
            assert spread["mean"] == pytest.approx(np.mean(spread["draws"]))
            assert spread["std"] == pytest.approx(np.std(spread["draws"], ddof=1))
    kept = json.loads((run / CARD).read_text())
    assert kept == json.loads(json.dumps(dataclasses.asdict(card)))
    said = capsys.readouterr().out
    page = (run / "report.html").read_text()
    for text in (card.hash, "lowshot, 10% of the labels", "from scratch", "random"):
        assert text in said or text in page
        assert text in page
    linear = f"{100 * card.scores['linear']['encoder']:.1f}"
    assert linear in said and linear in page

    # A second evaluation takes the first one's place.
    again = keras_ssl.evaluate(run, coloured(60), protocols="knn", verbose=0, **settings)
    assert (run / "report.html").read_text().count("<h2>Evaluation</h2>") == 1
    assert again.scores["knn"] == card.scores["knn"] and again.hash != card.hash


def test_the_hash_is_that_of_protocol_and_images(run):
    def hash_of(images=None, **settings):
        settings = {"test": coloured(30, 1), "verbose": 0, "baseline": False, **settings}
        return keras_ssl.evaluate(run, images or coloured(60), **settings).hash

    first = hash_of()
    assert first == hash_of() != hash_of(coloured(60, 2))
    assert first != hash_of(test=coloured(30, 3))
    assert first != hash_of(protocols="knn")


def test_a_new_page_shows_the_card_of_the_same_weights_alone(run):
    encoder = keras_ssl.load_encoder(run)
    keras_ssl.evaluate(run, coloured(60), protocols="knn", test=coloured(30, 1), verbose=0)

    def shown():
        page = report.write_report(run / "report.html", title="new", settings={}, metrics=[])
        show_again(page, encoder)
        return "<h2>Evaluation</h2>" in page.read_text()

    assert shown()
    encoder.set_weights([w + 1 for w in encoder.get_weights()])
    assert not shown()
    (run / CARD).write_text("[1]")
    assert not shown()


def test_an_inner_stage_is_evaluated_alone(run):
    first = next(iter(keras_ssl.backbones.stages(keras_ssl.load_encoder(run))))
    options = {"test": coloured(30, 1), "baseline": False, "verbose": 0}
    card = keras_ssl.evaluate(run, coloured(60), protocols="linear", layer=first, **options)
    layers = keras_ssl.evaluate(run, coloured(60), protocols="layers", **options)
    assert card.encoder["layer"] == first
    assert card.scores["linear"]["encoder"] == layers.scores["layers"][first]


def test_the_commands_take_a_run_as_their_first_word(run, tmp_path, capsys):
    folder = tmp_path / "photos"
    words = [f"--data={folder}", "--max_corrupt_fraction=0.5"]
    assert cli.main(["evaluate", str(run), *words]) == 1
    assert "neither a folder" in capsys.readouterr().err
    assert cli.main(["evaluate", *words]) == 2
    assert "`evaluate` needs RUN as its first word" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "other", *words]) == 2
    assert "takes RUN and flags alone, --name=value. Received: other." in capsys.readouterr().err
    assert cli.main(["export", str(run), f"--out={tmp_path / 'e.keras'}"]) == 0
    assert keras_ssl.load_encoder(tmp_path / "e.keras").feature_dim == 8
    for command in ("evaluate", "embed", "export"):
        assert cli.main([command, "--help"]) == 0
        page = capsys.readouterr().out
        assert f"keras-ssl {command} RUN --flag=value" in page and "\n  RUN\n" in page
        assert "--encoder" not in page


WRONG = {
    "a protocol": ({"protocols": "knn,liner"}, "Did you mean 'linear'"),
    "shares": ({"protocols": "lowshot", "fractions": "1%"}, "fractions='1%'"),
    "a share too small": ({"protocols": "lowshot", "fractions": "0.001"}, "leave each class"),
    "a stage": ({"layer": "top"}, "`layer` must be a stage"),
    "a folder for the card": ({"out": "."}, "`out` must be a file"),
    "no labels": ({"data": data.from_array(toys.images(20))}, "Evaluation needs labelled images"),
    "channels": (
        {"data": data.from_array(toys.images(20, (8, 8, 1)), np.arange(20) % 2)},
        "an encoder for 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_refused_and_nothing_is_written(run, case):
    settings, message = WRONG[case]
    before = sorted(p.name for p in run.iterdir())
    with pytest.raises(ValueError) as raised:
        keras_ssl.evaluate(run, **{"data": coloured(60), "verbose": 0, **settings})
    assert message in str(raised.value)
    assert sorted(p.name for p in run.iterdir()) == before
