"""A generative method, and views of one image of any number and size, through `train`."""

import csv
import math
import re
import types

import keras
import numpy as np
import pytest
from keras import ops
from toys import Follower, images, tiny_backbone

import keras_ssl
from keras_ssl import data, distribute, evaluation, runs, views
from keras_ssl.engine import SSLModel
from keras_ssl.ops import decode_lines, to_unit_range
from keras_ssl.runs import figures, watch
from recipes import _runner

PIXELS, HELD_OUT, LABELS = images(64) // 4, images(40, seed=1) // 4, np.arange(64) % 2


@keras.saving.register_keras_serializable("keras_ssl_tests")
class Toy(SSLModel):
    """A Gaussian decoder of the features plus noise, with a score of its error as likelihood."""

    loss_names = ("loss", "error", "size")
    likelihood_kind = "bound"
    batch_keys = ("views", "feature_noise")

    def __init__(self, backbone, scored=True, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.scored = backbone, scored
        width, shape = backbone.feature_dim, backbone.image_shape
        self.decoder = keras.Sequential(
            [
                keras.Input((width,)),
                keras.layers.Dense(math.prod(shape), "sigmoid"),
                keras.layers.Reshape(shape),
            ]
        )

    def compute_losses(self, batch, training):
        (image,) = (distribute.all_gather(view) for view in batch["views"])
        z = distribute.all_gather(self.backbone(batch["views"][0], training=training))
        noise = distribute.all_gather(batch["feature_noise"])
        error = ops.mean((self.decoder(z + 0.1 * noise) - image) ** 2)
        size = ops.mean(z**2)
        return {"loss": error + 0.01 * size, "error": error, "size": size}

    def reconstruct(self, images):
        return self.decoder(self.encode(images))

    def sample(self, count, seed=0):
        return self.decoder(keras.random.normal((count, self.backbone.feature_dim), seed=seed))

    def interpolate(self, first, second, steps):
        return decode_lines(self.decoder, self.encode(first), self.encode(second), steps)

    def log_prob(self, images, seed=0):
        error = ops.sum((self.reconstruct(images) - to_unit_range(images)) ** 2, axis=(1, 2, 3))
        return -error - math.log(256.0) * 192

    def can(self, hook):
        return super().can(hook) and (hook != "log_prob" or self.scored)

    def default_views(self, image_size):
        shape = (self.backbone.feature_dim,)
        noise = {"feature_noise": {"distribution": "normal", "shape": shape}}
        return views.WithNoise(views.plain(image_size), noise)


def train(out, test=True, epochs=2, labels=LABELS, **kwargs):
    keras.utils.set_random_seed(0)
    model = Toy(tiny_backbone(), **kwargs)
    model.compile(keras.optimizers.Adam(0.01))
    test = data.from_array(HELD_OUT, LABELS[:40]) if test else None
    source = data.from_array(PIXELS, labels)
    return runs.train(
        model, source, out, epochs=epochs, batch_size=16, seed=0, settings={}, test=test, verbose=0
    )


def test_figures_and_pictures_of_a_generative_method(tmp_path, capsys):
    run = train(tmp_path / "run")
    rows = list(csv.DictReader((run.out / "metrics.csv").read_text().splitlines()))
    bits = [float(row["bits_per_dim"]) for row in rows]
    expected, error = evaluation.bits_per_dim(run.model.log_prob, HELD_OUT)
    assert len(bits) == 3 and bits[-1] == expected < bits[0]
    for name in ("loss", "error", "size"):
        assert rows[0][name] == "" and all(float(row[name]) > 0 for row in rows[1:])
    ratio = evaluation.reconstruction_ratio(run.model.reconstruct, HELD_OUT)
    printed = capsys.readouterr().out
    assert re.search(f"bits per dimension, 40 held-out images +≤ {expected:.3f} ± ", printed)
    assert re.search(f"shuffled pairs, 40 held-out images +{ratio:.3f}", printed)
    page = run.report.read_text()
    for part in (
        "Interpolations",
        "Code lengths",
        "Reconstructions",
        "Samples",
        "Bits per dimension",
        "<b>error</b>",
        "<b>size</b>",
    ):
        assert part in page
    assert f"{expected:.3f} ± {error:.3f}" in page and f"{ratio:.3f}" in page
    # 12 views; 24 images with reconstructions; 6 lines of 10; 24 samples; 8 queries with 6
    # neighbours, twice.
    assert page.count("<img") == 12 + 2 * 24 + 6 * 10 + 24 + 8 * 13
    sheets = sorted((run.out / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["epoch-00001.png", "epoch-00002.png"]
    drawn = np.array(keras.utils.load_img(sheets[-1]))
    expected = 255 * np.array(run.model.sample(24, seed=0))
    assert drawn.shape == (3 * 8, 8 * 8, 3)
    np.testing.assert_allclose(drawn[8:16, 16:24], expected[10], atol=0.51)  # second row, third


def test_a_run_goes_on_with_its_figures(tmp_path):
    before = train(tmp_path / "run", epochs=1)
    after = train(tmp_path / "run", epochs=2)
    assert after.metrics[:2] == before.metrics and len(after.metrics) == 3
    bits = [row["bits_per_dim"] for row in after.metrics]
    assert bits[0] > bits[1] > bits[2]


def test_without_a_likelihood_and_without_held_out_images(tmp_path, capsys):
    run = train(tmp_path / "run", test=False, labels=None, epochs=1, scored=False)
    assert "bits_per_dim" not in run.metrics[-1]
    printed = capsys.readouterr().out
    assert "shuffled pairs, 64 training images" in printed and "bits per dim" not in printed
    assert "Samples" in run.report.read_text()


@pytest.mark.parametrize("scored", [True, False])
def test_recipes_judge_by_all_test_images(scored):
    model, config = Toy(tiny_backbone(), scored), types.SimpleNamespace(image_size=8)
    source, test = data.from_array(PIXELS), data.from_array(HELD_OUT)
    figures = _runner._generative(model, source, test, config)
    names = ["bits per dimension", "reconstruction error / that of shuffled pairs"]
    assert list(figures) == [f"{n}, 40 test images" for n in names[not scored :]]
    figures = _runner._generative(model, source, None, config)
    assert all(name.endswith(", 64 training images") for name in figures)
    assert _runner._generative(Follower(tiny_backbone()), source, test, config) == {}


class Crops:
    """One view of the images' size and two smaller ones, or as many as asked for."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __call__(self, image, seed):
        made = [views.image_ops.to_float(image)[:size, :size] for size in self.sizes]
        return {"views": tuple(made), "weight": seed[0], "patches": made[-1][None]}


@pytest.mark.parametrize(
    "sizes, pair", [((8,), False), ((8, 4, 4), False), ((4, 8, 8, 8), True), ((4, 6), False)]
)
def test_the_probe_takes_views_of_any_number_and_size(sizes, pair, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "_BATCH", 24)  # does not divide the 64 images
    model = Toy(tiny_backbone())
    probe = watch.Probe(model, data.from_array(PIXELS), None, Crops(sizes), seed=0)
    assert [[view.shape[0] for view in row] for row in probe.view_rows] == [[*sizes]] * 12
    unit = PIXELS / np.float32(255)
    for index, row in enumerate(probe.view_rows):
        for view in row:
            np.testing.assert_allclose(view, unit[index, : len(view), : len(view)], atol=1e-6)
    assert (probe.pair is not None) == pair
    if pair:
        for views_of_all in probe.pair:
            np.testing.assert_allclose(views_of_all, unit, atol=1e-6)


def test_pictures_of_masks_clusters_and_attention():
    vit = keras_ssl.backbones.vit(8, 1, 2, (8, 8, 3))
    pixels = images(40, (8, 8, 3))
    made = figures.pictures(keras_ssl.MAE(vit, mask_rate=0.5), pixels, pixels)
    assert set(made) == {"attention", "reconstructions"}
    assert made["reconstructions"].shape == (24, 3, 8, 8, 3)
    assert made["attention"].shape == (8, 1 + 1 + 2, 8, 8, 3)  # the image, the mean, two heads
    shown = pixels[:8, None] / np.float32(255)
    assert (made["attention"] <= shown + 1e-6).all() and made["attention"].min() >= 0
    np.testing.assert_allclose(made["attention"][:, :1], shown, atol=1e-6)
    model = keras_ssl.DINO(tiny_backbone(), num_prototypes=5)
    (groups,) = figures.pictures(model, pixels, pixels).values()
    assigned = np.array(model.assign(pixels))
    sizes = [np.sum(assigned == assigned[group[0]]) for group in groups]
    assert sizes == sorted(sizes, reverse=True) and len(groups) == len(set(assigned))
    assert all((assigned[group] == assigned[group[0]]).all() for group in groups)
