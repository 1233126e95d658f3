"""`compare`: one table of several methods, gone on with, and honest about runs that fail."""

import csv
import json
import shutil
import statistics
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import toys
from pages import Page
from PIL import Image

import keras_ssl
from keras_ssl import cli, data, distribute, evaluation, methods, report, runs
from keras_ssl.callbacks import TrainingDiverged
from keras_ssl.encoders import BACKBONE
from keras_ssl.evaluation import Verdict
from keras_ssl.export import save_backbone
from keras_ssl.runs.comparison import RANDOM
from keras_ssl.runs.evaluate import CARD

MODULE = sys.modules["keras_ssl.runs.compare"]  # the package's attribute is the function


def coloured(count, seed=0):
    labels = np.arange(count) % 3
    images = toys.images(count, seed=seed) // 2
    images[np.arange(count), :, :, labels] += 60
    return data.from_array(images, labels)


@pytest.fixture(scope="module")
def backbone():
    return keras_ssl.backbones.small_conv((8, 8, 3), widths=(4, 8))


@pytest.fixture
def trained(monkeypatch):
    """In the place of `pretrain`, which has its own tests: writes what is read of a run folder.

    `trained.fails` holds errors by method and seed; `trained.calls` what was trained.
    """

    def pretrain(method, data, out, *, seed, backbone, epochs, method_options, **settings):
        pretrain.calls.append((method, seed))
        pretrain.options = {**settings, "data": data, "method_options": method_options}
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text("{}")
        if (method, seed) in pretrain.fails:
            raise pretrain.fails[method, seed]
        save_backbone(keras_ssl.backbones.get(backbone, (8, 8, 3)), out / BACKBONE)
        report.write_report(out / "report.html", title=method, settings={}, metrics=[])
        knn = [{"epoch": e, "knn": 0.3 + 0.1 * e} for e in range(epochs + 1)]
        status = "healthy" if method == "simclr" else "collapsed"
        verdict = Verdict(status, f"A message on {method}.")
        return runs.Run(None, out, None, out / "report.html", knn, verdict)

    def extract(encode, images):
        return images.reshape(len(images), -1)[:, :4].astype("float32")

    pretrain.calls, pretrain.fails = [], {}
    monkeypatch.setattr(MODULE, "pretrain", pretrain)
    monkeypatch.setattr(evaluation, "extract", extract)  # for the maps
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)  # takes half a second
    return pretrain


@pytest.fixture
def judged(monkeypatch):
    """In the place of `evaluate`."""

    def evaluate(encoder, *, out=None, protocols, **settings):
        out = encoder / CARD if out is None else out
        scores = {name: {"encoder": 0.5} for name in protocols}
        card = runs.Card({}, {}, {}, "0123456789abcdef", scores)
        card.save(out)
        return card

    monkeypatch.setattr(MODULE, "evaluate", evaluate)


@pytest.fixture
def compare(backbone, tmp_path):
    def call(methods="simclr,byol", seeds=2, **settings):
        settings = {"backbone": backbone, "test": coloured(24, 1), "epochs": 2, **settings}
        settings = {"protocols": "knn", "verbose": 0, "precision": "float32", **settings}
        images = settings.pop("data", None) or coloured(60)
        out = settings.pop("out", tmp_path / "all")
        return keras_ssl.compare(methods, images, out, seeds=seeds, **settings)

    return call


def test_the_table_stands_in_all_files_and_on_the_screen(compare, trained, capsys):
    made = compare(protocols="linear,knn", batch_size=16)
    assert trained.calls == [("simclr", 0), ("byol", 0), ("simclr", 1), ("byol", 1)]
    assert (trained.options["image_size"], trained.options["batch_size"]) == (8, 16)
    record = json.loads((made.out / "comparison.json").read_text())
    assert record["rows"] == made.rows
    assert {row["method"] for row in made.rows} == {"simclr", "byol", RANDOM}
    ranks = [row["scores"]["knn"]["mean"] for row in made.rows]
    assert ranks == sorted(ranks, reverse=True)
    hashes = set()
    for row in made.rows:
        assert row["seeds"] == [0, 1]
        for name, score in row["scores"].items():
            cards = [
                json.loads((made.out / row["method"] / f"seed-{seed}" / CARD).read_text())
                for seed in (0, 1)
            ]
            values = [card["scores"][name]["encoder"] for card in cards]
            assert list(score["by_seed"].values()) == values
            assert score["mean"] == pytest.approx(np.mean(values))
            assert score["std"] == pytest.approx(np.std(values, ddof=1))
            hashes |= {card["hash"] for card in cards}
    # Of one seed the untrained network is the same for all, and was evaluated once.
    assert hashes == {made.rows[0]["protocol_hash"]}
    random = next(row for row in made.rows if row["method"] == RANDOM)
    table = list(csv.DictReader((made.out / "comparison.csv").read_text().splitlines()))
    assert [line["method"] for line in table] == [row["method"] for row in made.rows]
    assert float(table[0]["knn mean"]) == made.rows[0]["scores"]["knn"]["mean"]
    printed, page = capsys.readouterr().out, made.report.read_text()
    parsed = Page(page.replace("\u00a0", " "))
    mean, std = (100 * random["scores"]["linear"][part] for part in ("mean", "std"))
    for text in ("SimCLR", "BYOL", "random encoder", f"{mean:.1f} ± {std:.1f}", "collapsed"):
        assert text in printed and text in parsed.text
    assert "A message on byol." in parsed.text and "A message on simclr." not in parsed.text
    links = [place for place in parsed.addresses if place[0] != "#"]
    assert len(links) == 8 and all((made.out / link).is_file() for link in links)
    assert "script" not in parsed.tags and "prefers-color-scheme: dark" in page
    assert parsed.tags.count("svg") == 4  # curves of both methods, three maps


def test_the_same_call_repeats_nothing_and_takes_more_methods_and_seeds(compare, trained, judged):
    first = compare("simclr", seeds=1)
    assert first.rows[0]["scores"]["knn"]["std"] is None
    again = compare("simclr", seeds=1)
    assert trained.calls == [("simclr", 0)] and again.rows == first.rows
    more = compare("VICReg", seeds=2)
    assert trained.calls[1:] == [("vicreg", 0), ("vicreg", 1)]
    seeds = {row["method"]: row["seeds"] for row in more.rows}
    assert seeds == {"simclr": [0], "vicreg": [0, 1], RANDOM: [0, 1]}
    (more.out / "simclr" / "seed-0" / CARD).unlink()
    compare("simclr", seeds=2)
    assert trained.calls[3:] == [("simclr", 0), ("simclr", 1)]


def test_all_seeds_hold_out_the_same_images_of_a_folder(compare, trained, judged, tmp_path):
    for i, image in enumerate(toys.images(40)):
        (tmp_path / "photos" / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"class{i % 2}" / f"{i}.png")
    settings = {"data": tmp_path / "photos", "test": None, "backbone": "small_conv"}
    held_out = []
    for seeds in (1, 2):
        compare("simclr", seeds=seeds, **settings)
        assert not set(trained.options["data"].files) & set(trained.options["test"].files)
        held_out.append(trained.options["test"].files)
    assert len(held_out[0]) == 4 and held_out[0] == held_out[1]
    assert trained.calls == [("simclr", 0), ("simclr", 1)]


def test_a_stopped_comparison_goes_on(compare, trained, judged):
    trained.fails["byol", 0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare()
    del trained.fails["byol", 0]
    made = compare()
    assert trained.calls[2:] == [("byol", 0), ("simclr", 1), ("byol", 1)]
    record = json.loads((made.out / "comparison.json").read_text())
    minutes = {s: result["minutes"] for s, result in record["runs"]["byol"].items()}
    assert minutes["0"] is None and minutes["1"] > 0  # those before the stop are unknown


def test_runs_that_fail_are_named_and_tried_again(compare, trained, judged, tmp_path, capfd):
    trained.fails = {("simclr", 0): TrainingDiverged("NaN at step 3."), ("byol", 1): KeyError("x")}
    with pytest.raises(RuntimeError, match="2 of 4 runs failed.*BYOL, seed 1: KeyError") as raised:
        compare()
    assert "SimCLR, seed 0: TrainingDiverged: NaN at step 3." in str(raised.value)
    assert len(trained.calls) == 4
    out, err = capfd.readouterr()
    assert err.count("Traceback") == 1 and "KeyError" in err  # a bug shows its trace
    page = Page((tmp_path / "all" / "comparison.html").read_text())
    for text in (out, page.text, (tmp_path / "all" / "comparison.csv").read_text()):
        assert "NaN at step 3." in text
    trained.fails = {}
    made = compare()
    assert trained.calls[4:] == [("simclr", 0), ("byol", 1)]
    assert not any(row["failed"] for row in made.rows)


def test_a_method_without_any_result_stands_last(compare, trained, judged, tmp_path):
    trained.fails = {("simclr", seed): ValueError("too few images") for seed in (0, 1)}
    with pytest.raises(RuntimeError, match="SimCLR, seeds 0, 1: ValueError: too few images"):
        compare()
    rows = json.loads((tmp_path / "all" / "comparison.json").read_text())["rows"]
    assert rows[-1]["method"] == "simclr" and rows[-1]["scores"] == {}


def test_options_go_to_their_method_and_identify_its_runs(compare, trained, judged, tmp_path):
    options = {"simclr.temperature": 0.2}
    compare("simclr", seeds=1, method_options=options)
    assert trained.options["method_options"] == {"temperature": 0.2}
    compare("byol", seeds=1)
    assert trained.options["method_options"] == {}
    with pytest.raises(ValueError, match=r"options of simclr: .*0.2.* there, .*0.3.* asked for"):
        compare("simclr", seeds=1, method_options={"simclr.temperature": 0.3})
    with pytest.raises(ValueError, match="a method whose folder is removed is begun anew"):
        compare("simclr", seeds=1)
    shutil.rmtree(tmp_path / "all" / "simclr")
    made = compare("simclr", seeds=1)
    assert trained.calls[2:] == [("simclr", 0)] and len(made.rows) == 3


def test_another_comparison_in_the_same_folder_is_refused(compare, trained, judged, tmp_path):
    compare("simclr", seeds=1)
    before = (tmp_path / "all" / "comparison.json").read_text()
    for settings, says in {
        "epochs": ({"epochs": 3}, "epochs: 2 there, 3 asked for"),
        "data": ({"data": coloured(63)}, "images: "),
        "test": ({"test": coloured(33)}, "test: "),
        "protocols": ({"protocols": "linear"}, "protocols: "),
        "optimizer": ({"optimizer": "paper"}, "optimizer: 'auto' there, 'paper' asked for"),
        "precision": ({"precision": "mixed_bfloat16"}, "precision: "),
        "backbone": ({"backbone": toys.tiny_backbone()}, "network: "),
    }.values():
        with pytest.raises(ValueError) as raised:
            compare("simclr", seeds=1, **settings)
        assert "holds another comparison" in str(raised.value) and says in str(raised.value)
    assert (tmp_path / "all" / "comparison.json").read_text() == before
    assert len(trained.calls) == 1


def test_methods_that_learn_worse_in_bfloat16_take_float32_alone(
    compare, trained, judged, monkeypatch
):
    monkeypatch.setattr(MODULE.precisions, "speedup", lambda: 2.0)
    worse = next(cls for cls in methods.METHODS if not cls.half_precision).__name__
    compare(f"simclr,{worse}", seeds=1, precision="auto")
    assert trained.options["precision"] == "float32"
    compare("simclr", seeds=2, precision="auto")
    assert trained.options["precision"] == "mixed_bfloat16"


def test_networks_are_let_go_after_each_run_and_the_format_stays(monkeypatch):
    cleared, registry = [], {"CustomGradient-0": 0, "Add": 0}
    monkeypatch.setattr(keras.backend, "clear_session", lambda: cleared.append(dict(registry)))
    monkeypatch.setattr(distribute, "_gradient_functions", lambda: registry)
    keras.config.set_dtype_policy("mixed_bfloat16")
    with MODULE._forgetting():
        registry["CustomGradient-1"] = 1
    assert cleared == [{"CustomGradient-0": 0, "Add": 0}]  # those from before stay
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    monkeypatch.undo()
    assert distribute._gradient_functions()  # where this version of TensorFlow keeps them


WRONG = {
    "a method": ({"methods": "simclr,simlcr"}, "Did you mean 'simclr'"),
    "no method": ({"methods": []}, "at least one method"),
    "an empty name": ({"methods": "simclr,"}, "Received: ''"),
    "a method with a network of its own": ({"methods": [toys.OwnNetwork]}, "its own network"),
    "a missing teacher": (
        {"methods": "simclr,feature_distillation"},
        "--set=featuredistillation.teacher=VALUE",
    ),
    "a teacher that is absent": (
        {
            "methods": "featuredistillation",
            "method_options": {"feature_distillation.teacher": "x.keras"},
        },
        "where there is nothing",
    ),
    "an option": (
        {"method_options": {"simclr.temprature": 1}},
        "no argument 'temprature'. Did you mean 'temperature'",
    ),
    "an option of no method": ({"method_options": {"temperature": 1}}, "simclr.temperature"),
    "an option of another method": ({"method_options": {"moco.dim": 1}}, "moco.dim=1"),
    "seeds": ({"seeds": 0}, "`seeds` must be a positive integer. Received: seeds=0"),
    "a protocol": ({"protocols": "knn,liner"}, "Did you mean 'linear'"),
    "shares": ({"protocols": "lowshot", "fractions": "0.001"}, "leave each class"),
    "a backbone": ({"backbone": "resnet19"}, "resnet18"),
    "no labels": ({"data": data.from_array(toys.images(20)), "test": None}, "without labels"),
    "labels of the test alone": ({"data": data.from_array(toys.images(20))}, "without labels"),
    "a batch larger than the data": ({"batch_size": 61}, "batch_size=61"),
    "precision": ({"precision": "float8"}, "precision='float8'"),
    "no folder": ({"out": None}, "`out` must be the path of a folder"),
    "a folder of other files": ({"out": "."}, "which holds other files"),
    "a file": ({"out": "kept"}, "a file. Choose another name"),
    "a folder under a file": ({"out": "kept/all"}, "that can be written"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_refused_before_anything_is_trained(
    compare, trained, judged, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").write_text("")
    settings, message = WRONG[case]
    with pytest.raises(ValueError) as raised:
        compare(**settings)
    assert message in str(raised.value)
    assert not trained.calls and [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("record", ["[1]", "{", '{"settings": {}}', '{"settings": 1, "runs": {}}'])
def test_a_record_that_is_none_is_refused(compare, trained, judged, tmp_path, record):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "comparison.json").write_text(record)
    with pytest.raises(ValueError, match="comparison.json is not .*Choose another `out`"):
        compare()
    assert not trained.calls


def test_several_processes_are_refused(compare, trained, judged, monkeypatch):
    monkeypatch.setattr(distribute, "processes", lambda: 2)
    with pytest.raises(ValueError, match="TF_CONFIG with 2 processes"):
        compare()


def test_the_command_passes_its_flags_on(monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(runs, "compare", lambda **settings: seen.update(settings))
    words = ["--methods=simclr,byol", "--data=shapes", "--out=runs/c", "--seeds=2"]
    assert cli.main(["compare", *words, "--set=simclr.temperature=0.2"]) == 0
    assert [seen[n] for n in ("methods", "data", "out")] == ["simclr,byol", "shapes", "runs/c"]
    assert seen["seeds"] == 2 and seen["method_options"] == {"simclr.temperature": 0.2}
    assert cli.main(["compare", *words[1:]]) == 2
    assert "`compare` needs --methods" in capsys.readouterr().err
    monkeypatch.setattr(runs, "compare", mock.Mock(side_effect=KeyboardInterrupt))
    assert cli.main(["compare", *words]) == 130
    assert "The same command goes on" in capsys.readouterr().err


@pytest.mark.slow
def test_from_images_to_a_page(compare, tmp_path):
    made = compare("simclr,byol", seeds=1, epochs=1, batch_size=20, protocols="knn,linear")
    for row in made.rows:
        assert statistics.fmean(row["scores"]["knn"]["by_seed"].values()) > 0
    for name in ("simclr", "byol"):
        assert keras_ssl.load_encoder(made.out / name / "seed-0").feature_dim == 8
        page = (made.out / name / "seed-0" / "report.html").read_text()
        assert "<h2>Evaluation</h2>" in page
    # The runs began with the network that stands in the table as the random encoder.
    first, second = (
        next(csv.DictReader((made.out / name / "seed-0" / "metrics.csv").read_text().splitlines()))
        for name in ("simclr", "byol")
    )
    assert first["features_std"] == second["features_std"]
