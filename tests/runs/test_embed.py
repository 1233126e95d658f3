"""`embed`: the same features in every kind of file, under the right names, or no file at all."""

import csv
import json
import re

import numpy as np
import PIL.Image
import pytest
import toys

import keras_ssl
from keras_ssl import data
from keras_ssl.runs import features_file

NAMES = ["ant/0.png", 'ant/1, "big".png', "bee/2.png", "bee/<3>&.png", "cat/é.png"]


@pytest.fixture(scope="module")
def encoder():
    return toys.tiny_backbone()


@pytest.fixture
def photos(tmp_path):
    """Five images of several sizes; between them, files that hold none."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (8 + 4 * number, 12, 3)
        PIL.Image.fromarray(toys.images(1, shape, number)[0]).save(path)
    for name in ("ant/0a.png", "bee/1.png", "cat/z.png"):
        (tmp_path / "photos" / name).write_bytes(b"no image")
    return tmp_path / "photos"


def embed(encoder, images, out, **options):
    options = {"verbose": False, "max_corrupt_fraction": 0.5, **options}
    assert keras_ssl.embed(encoder, images, out, **options) == out
    return out


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def rows_of_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S).group(1))


def test_all_files_hold_the_same(encoder, photos, tmp_path, capsys):
    out = {end: embed(encoder, photos, tmp_path / "new" / f"f{end}") for end in (".npz", ".csv")}
    said = capsys.readouterr().out
    assert "3: ant/0a.png (" in said and "bee/1.png" in said and "cat/z.png" in said
    found = arrays(out[".npz"])
    source = data.from_folder(photos, max_corrupt_fraction=0.5)
    images, labels = source.arrays((8, 8))
    expected = np.asarray(encoder(images, training=False))
    np.testing.assert_allclose(found["features"], expected, atol=1e-5)
    assert found["features"].dtype == np.float32 and found["files"].tolist() == NAMES
    assert found["labels"].tolist() == labels.tolist() == [0, 0, 1, 1, 2]
    assert found["class_names"].tolist() == ["ant", "bee", "cat"]
    assert [source.files[i] for i in found["index"]] == NAMES
    rows = rows_of_csv(out[".csv"])
    assert list(rows[0]) == ["file", "index", "label", "class", *(f"f{i}" for i in range(8))]
    assert [row["file"] for row in rows] == NAMES
    assert [row["class"] for row in rows] == ["ant", "ant", "bee", "bee", "cat"]
    assert [int(row["index"]) for row in rows] == found["index"].tolist()
    read = np.array([[row[f"f{i}"] for i in range(8)] for row in rows], np.float32)
    np.testing.assert_array_equal(read, found["features"])
    page = embed(encoder, photos, tmp_path / "map.html")
    shown = data_of(page)
    assert shown["name"] == NAMES and shown["index"] == found["index"].tolist()
    assert shown["label"] == [0, 0, 1, 1, 2] and shown["pixel"]
    assert "left out: 3: ant/0a.png" in page.read_text()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["f.csv", "f.npz"]


def test_parquet(encoder, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = arrays(embed(encoder, photos, tmp_path / "f.npz"))
    table = parquet.read_table(embed(encoder, photos, tmp_path / "f.parquet"))
    assert str(table.schema.field("features").type) == "fixed_size_list<element: float>[8]"
    columns = table.to_pydict()
    np.testing.assert_array_equal(np.array(columns["features"], np.float32), found["features"])
    assert columns["file"] == NAMES and columns["label"] == found["labels"].tolist()
    assert columns["index"] == found["index"].tolist() and columns["class"][-1] == "cat"
    table = parquet.read_table(embed(encoder, toys.images(3), tmp_path / "f.parquet"))
    assert table.to_pydict()["file"] == table.to_pydict()["label"] == [None] * 3


def test_images_without_files_or_labels(encoder, tmp_path):
    images = toys.images(5)
    found = arrays(embed(encoder, images, tmp_path / "f.npz"))
    assert sorted(found) == ["features", "index"] and found["index"].tolist() == [0, 1, 2, 3, 4]
    row = rows_of_csv(embed(encoder, images, tmp_path / "f.csv"))[4]
    assert (row["file"], row["index"], row["label"], row["class"]) == ("", "4", "", "")
    labelled = data.from_array(images, np.array([0, 1, -1, 0, 2]))
    rows = rows_of_csv(embed(encoder, labelled.subset(np.array([4, 2])), tmp_path / "f.csv"))
    assert [(row["index"], row["label"]) for row in rows] == [("0", "2"), ("1", "-1")]


def test_images_pass_in_batches(encoder, tmp_path, monkeypatch):
    sizes, predict = [], type(encoder).predict_on_batch

    def count(self, images):
        sizes.append(len(images))
        return predict(self, images)

    whole = arrays(embed(encoder, toys.images(7), tmp_path / "f.npz"))
    monkeypatch.setattr(type(encoder), "predict_on_batch", count)
    parts = arrays(embed(encoder, toys.images(7), tmp_path / "f.npz", batch_size=3))
    assert sizes == [3, 3, 3]  # the last is filled up
    np.testing.assert_allclose(parts["features"], whole["features"], atol=1e-6)


def test_a_run_folder_and_another_size(encoder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    encoder.save(tmp_path / "run" / "encoder.keras")
    run, images = tmp_path / "run", toys.images(4, (20, 16, 3))
    found = arrays(embed(run, images, tmp_path / "f.npz", image_size=16))["features"]
    expected = encoder(data.from_array(images).arrays((16, 16))[0], training=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_choice_of_points_for_the_map(encoder, tmp_path):
    images = toys.images(40)
    pages = [
        embed(encoder, images, tmp_path / f"{n}.html", points=9, seed=seed)
        for n, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (data_of(page)["index"] for page in pages)
    assert first == again != other and len(set(first)) == 9 and first == sorted(first)
    assert "9 of 40 images, chosen at random (seed 0)" in pages[0].read_text()
    assert pages[0].read_text() == pages[1].read_text()


def test_what_is_said(encoder, tmp_path, capsys):
    out = embed(encoder, toys.images(5), tmp_path / "f.npz", verbose=True)
    said = capsys.readouterr()
    assert said.out == f"5 images, 8 features each: {out}\n" and "5/5" in said.err
    embed(encoder, toys.images(5), tmp_path / "f.npz")
    said = capsys.readouterr()
    assert said.out == said.err == ""


@pytest.mark.parametrize("ending", features_file.ENDINGS)
def test_nothing_is_left_of_a_file_that_fails(encoder, tmp_path, monkeypatch, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    old = tmp_path / f"f{ending}"
    old.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(features_file.os, "replace", full)
        for out in (old, tmp_path / "a" / "b" / f"f{ending}"):
            with pytest.raises(
                RuntimeError, match="could not be written: No space left.*unchanged"
            ):
                embed(encoder, toys.images(3), out)
    assert [p.name for p in tmp_path.iterdir()] == [old.name] and old.read_text() == "before"


def test_a_stop_while_encoding_leaves_nothing(encoder, tmp_path, monkeypatch):
    def stop(self, images):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(encoder), "predict_on_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, toys.images(3), tmp_path / "new" / "f.npz")
    assert list(tmp_path.iterdir()) == []
