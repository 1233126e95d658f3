"""Fingerprints: what tells the images of one source from those of another."""

import json
import os
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.data import fingerprints

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)


def fill(folder):
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        PIL.Image.fromarray(image).save(folder / f"{number:02d}.bmp")
    return folder


def changed(before, after):
    assert before.keys() == after.keys()
    return {key for key in before if before[key] != after[key]}


def of(folder):
    return data.from_folder(folder).fingerprint()


def test_a_folder_is_known_by_names_sizes_and_bytes(tmp_path, monkeypatch):
    folder = fill(tmp_path / "a")
    before = of(folder)
    assert json.loads(json.dumps(before)) == before
    assert before.keys() == {"size", "names", "digest", "times"} and before["size"] == 12
    monkeypatch.chdir(tmp_path)
    assert of("a") == before
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert changed(before, of(tmp_path / "copy")) == {"times"}
    (tmp_path / "copy" / "03.bmp").rename(tmp_path / "copy" / "03b.bmp")
    assert changed(before, of(tmp_path / "copy")) == {"times", "names"}

    times = os.stat(folder / "05.bmp")
    PIL.Image.fromarray(IMAGES[5] ^ 1).save(folder / "05.bmp")
    os.utime(folder / "05.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed(before, of(folder)) == {"digest"}
    (folder / "05.bmp").unlink()
    assert changed(before, of(folder)) == {"size", "names", "digest", "times"}


def test_of_many_files_some_are_read(tmp_path, monkeypatch):
    folder = fill(tmp_path / "a")
    monkeypatch.setattr(fingerprints, "_FILES", 3)  # the first, the middle, the last
    before = of(folder)
    PIL.Image.fromarray(IMAGES[2] ^ 1).save(folder / "02.bmp")
    assert changed(before, of(folder)) == {"times"}
    PIL.Image.fromarray(IMAGES[5] ^ 1).save(folder / "05.bmp")
    assert changed(before, of(folder)) == {"times", "digest"}


def test_files_that_go_away_are_no_error(tmp_path):
    source = data.from_folder(fill(tmp_path / "a"))
    before = source.fingerprint()
    (tmp_path / "a" / "00.bmp").unlink()
    assert changed(before, source.fingerprint()) == {"names", "digest", "times"}


def test_an_array_is_known_by_all_its_bytes():
    labels = np.arange(12)
    before = data.from_array(IMAGES, labels).fingerprint()
    assert json.loads(json.dumps(before)) == before
    assert before == data.from_array(IMAGES.copy(), labels, name="other").fingerprint()
    one = IMAGES.copy()
    one[7, 3, 3, 1] ^= 1
    others = [(one, labels), (IMAGES, None), (IMAGES, labels[::-1]), (IMAGES / 255, labels)]
    for images, numbers in others:
        other = data.from_array(images, numbers).fingerprint()
        assert changed(before, other) == {"digest"}


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_a_subset_is_known_by_its_indices(kind, tmp_path):
    source = data.from_array(IMAGES) if kind == "array" else data.load(fill(tmp_path / "a"))
    first, second = (source.subset(np.array(x)).fingerprint() for x in ([0, 1, 2], [0, 1, 3]))
    assert changed(first, second) == {"indices"}
    twice = source.subset(np.arange(6)).subset(np.array([0, 1, 2])).fingerprint()
    assert twice == first
    assert {k: v for k, v in first.items() if k != "indices"} == {**source.fingerprint(), "size": 3}


def test_a_data_set_is_known_by_images_and_labels():
    def of(images, labels):
        return data.from_dataset(tf.data.Dataset.from_tensor_slices((images, labels))).fingerprint()

    before = of(IMAGES, np.arange(12))
    assert before.keys() == {"size", "digest"} and before == of(IMAGES, np.arange(12))
    assert changed(before, of(IMAGES ^ 1, np.arange(12))) == {"digest"}
    assert changed(before, of(IMAGES, np.arange(12) % 3)) == {"digest"}
