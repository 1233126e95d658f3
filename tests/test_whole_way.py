"""From images to a working classifier by commands alone, on real images, as the README shows."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import keras_ssl
from keras_ssl import cli

IMAGES, EPOCHS = 10_000, 3

ELSEWHERE = """
import sys
import numpy as np
import tensorflow as tf
with np.load("cifar.npz") as file:
    images = file["x_test"][:64]
encoder = tf.saved_model.load("encoder")
np.save("features.npy", encoder.serve_uint8(images).numpy())
assert "keras_ssl" not in sys.modules
"""


def keras_ssl_(line):
    assert cli.main(line.split()) == 0


@pytest.mark.slow
def test_pretrain_evaluate_embed_export_and_load_elsewhere(real_data, tmp_path, monkeypatch):
    source, test = keras_ssl.data.splits("cifar10", data_dir=real_data / "tfds")
    images, labels = source.subset(np.arange(IMAGES)).arrays((32, 32))
    test_images, test_labels = test.arrays((32, 32))
    monkeypatch.chdir(tmp_path)
    np.savez("cifar.npz", x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)

    keras_ssl_(
        "pretrain --method=simclr --data=cifar.npz --backbone=small_conv --batch_size=128 "
        f"--epochs={EPOCHS} --out=runs/whole"
    )
    rows = list(csv.DictReader(pathlib.Path("runs/whole/metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["knn"]) > float(rows[0]["knn"]) + 0.05

    keras_ssl_(
        "evaluate runs/whole --data=cifar.npz --protocols=knn,linear,lowshot,finetune --draws=2 "
        "--out=card.json"
    )
    scores = json.loads(pathlib.Path("card.json").read_text())["scores"]
    assert scores["linear"]["encoder"] > scores["linear"]["random"] + 0.04
    few, more = scores["lowshot"]["1%"], scores["lowshot"]["10%"]
    assert few["fine-tuned"]["images"] == 100 and more["fine-tuned"]["images"] == 1000
    for found in (few, more):  # the encoder's features tell more than those of new weights
        assert found["linear"]["mean"] > found["linear, random"]["mean"] + 0.03
    assert few["linear"]["mean"] > few["from scratch"]["mean"]  # ten labels a class
    assert scores["finetune"]["fine-tuned"] > scores["finetune"]["from scratch"] - 0.02

    keras_ssl_("embed runs/whole --data=cifar.npz --split=test --out=features.npz")
    keras_ssl_("embed runs/whole --data=cifar.npz --split=test --out=map.html")
    assert os.path.getsize("map.html") > 100_000
    keras_ssl_("export runs/whole --out=encoder")
    environment = {**os.environ, "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load("features.npz") as file:
        assert file["features"].shape[0] == len(test_images)
        np.testing.assert_allclose(np.load("features.npy"), file["features"][:64], atol=0.02)
