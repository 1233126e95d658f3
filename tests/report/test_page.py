import re

import numpy as np
import pytest
from pages import Page

from keras_ssl.evaluation import Verdict
from keras_ssl.report import charts, pictures
from keras_ssl.report import page as report

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
LABELS = np.arange(60) % 5
FEATURES = np.eye(5)[LABELS] @ RNG.normal(size=(5, 16)) + 0.1 * RNG.normal(size=(60, 16))
METRICS = [
    {"epoch": 0, "knn": 0.2, "features_std": 0.1, "embedding_std": 0.1},
    {"epoch": 1, "loss": 5.0, "knn": float("nan"), "features_std": 0.2, "embedding_std": 0.3},
    {"epoch": 2, "loss": 4.0, "knn": 0.4, "features_std": 0.3, "embedding_std": 0.5, "kl": 1.0},
]


def write(path, **kwargs):
    arguments = {"title": "SimCLR on shapes", "settings": {"epochs": 2}, "metrics": METRICS}
    report.write_report(path, **(arguments | kwargs))
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def full(path, **kwargs):
    arguments = {
        "views": RNG.random((4, 2, 16, 16, 3)),
        "images": IMAGES,
        "features": FEATURES,
        "untrained_features": RNG.normal(size=(60, 8)),
        "labels": LABELS,
        "class_names": ["ant", "bee", "cat", "dog", "elk"],
        "verdict": Verdict("collapsed", "All images map to nearly one point."),
        "extra": {"kNN accuracy": 0.51234, "note": "a long text that is no large figure"},
    }
    return write(path, **(arguments | kwargs))


def test_page_is_whole_and_points_nowhere(tmp_path):
    text, page = full(tmp_path / "new" / "report.html")
    for part in ("Collapsed", "nearly one point", "0.5123", "Loss", "Spread", "Views", "Settings"):
        assert part in page.text
    for part in ("Nearest neighbours", "untrained encoder", "t-SNE", "Coloured by class (5)"):
        assert part in page.text
    assert "script" not in page.tags
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert not re.search(r"url\((?!#)|@import", text)
    # Addresses may stand in the names of XML name spaces, and nowhere else.
    assert not re.search(r"https?://", re.sub(r"xmlns(:\w+)?=\"[^\"]*\"|<!DOCTYPE[^>]*>", "", text))
    # 4 images with 2 views; 8 queries with 6 neighbours in each of two spaces.
    assert page.tags.count("img") == 8 + 8 * (1 + 2 * 6)
    assert text.count("class='right pixel'") > text.count("class='wrong pixel'") > 0
    assert not any(token in text for token in charts.TOKENS.values())


def test_little_is_enough(tmp_path):
    text, page = write(tmp_path / "r.html", metrics=[], settings={})
    assert "svg" not in page.tags and "img" not in page.tags
    _, page = write(tmp_path / "r.html", metrics=[{"loss": float("nan")}, {"loss": 2.0}])
    assert page.tags.count("svg") == 1
    _, page = write(tmp_path / "r.html", features=FEATURES)
    assert "No labels were given" in page.text and "Nearest neighbours" not in page.text


def test_missing_and_infinite_values_leave_gaps(tmp_path):
    metrics = [{"epoch": e, "loss": v} for e, v in enumerate([1.0, None, "", np.inf, np.nan, 2.0])]
    _, page = write(tmp_path / "r.html", metrics=metrics)
    assert page.tags.count("svg") == 1


def test_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&\"'"
    text, page = full(
        tmp_path / "r.html",
        title=evil,
        settings={evil: evil},
        extra={evil: evil},
        class_names=[evil] * 5,
        verdict={"status": evil, "message": evil},
        metrics=[{"epoch": 0, evil: 1.0}],
    )
    assert "<script" not in text and "script" not in page.tags
    assert page.text.lower().count("<script>alert('x')</script>&\"'") >= 6


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(tmp_path, channels):
    images = RNG.random((12, 10, 14, channels)).astype(np.float32)
    views = RNG.normal(size=(3, 4, 10, 14, channels))
    _, page = write(tmp_path / "r.html", images=images, features=FEATURES[:12], views=views)
    assert page.tags.count("img") == 12 + 8 * 7
    assert "PCA of their features" in page.text


def test_clips_show_a_frame(tmp_path):
    clips = RNG.random((6, 2, 5, 8, 8, 3))
    _, page = write(tmp_path / "r.html", views=clips)
    assert page.tags.count("img") == 12


@pytest.mark.parametrize(
    "features", [np.ones((60, 4)), np.zeros((60, 4)), FEATURES[:, :1], FEATURES * np.nan]
)
def test_collapsed_features_still_make_a_page(tmp_path, features):
    _, page = full(tmp_path / "r.html", features=features)
    assert ("NaN or infinity" in page.text) == bool(np.isnan(features).any())


def test_neighbours_are_the_nearest():
    near = pictures.nearest(FEATURES, np.array([0, 7]))
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    for row, query in zip(near, (0, 7)):
        order = [j for j in np.argsort(-(unit @ unit[query])) if j != query]
        assert list(row) == order[:6]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    write(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(path, title="b", settings={}, metrics=[])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="same images. Received: .*59"):
        full(tmp_path / "r.html", labels=LABELS[:59])
    with pytest.raises(ValueError, match="`views` must have the shape"):
        full(tmp_path / "r.html", views=np.zeros((4, 16, 16, 3)))


def test_reconstructions_samples_and_views_of_several_sizes(tmp_path):
    pairs = RNG.random((30, 2, 16, 16, 3))
    views = [[RNG.random((side, side, 3)) for side in (16, 8, 8)] for _ in range(5)]
    _, page = write(
        tmp_path / "r.html", views=views, reconstructions=pairs, samples=RNG.random((60, 16, 16, 1))
    )
    assert page.tags.count("img") == 15 + 2 * 24 + 48
    for part in ("Views", "Reconstructions", "Samples"):
        assert part in page.text


def test_masks_attention_and_clusters(tmp_path):
    _, page = write(
        tmp_path / "r.html",
        reconstructions=RNG.random((5, 3, 16, 16, 3)),
        attention=RNG.random((2, 4, 16, 16, 3)),
    )
    assert page.tags.count("img") == 5 * 3 + 2 * 4
    for part in ("between them what the encoder saw", "where the last block looks"):
        assert part in page.text
    clusters = [[0, 5, 10, 11], [1, 6]]  # classes 0, 0, 0, 1 and 1, 1
    names = [f"class {k}" for k in "abcde"]
    text, page = write(
        tmp_path / "r.html", images=IMAGES, labels=LABELS, class_names=names, clusters=clusters
    )
    assert page.tags.count("img") == 6 and "Clusters" in page.text
    assert text.count("class='right pixel'") == 5 and text.count("class='wrong pixel'") == 1
    assert text.index("<td>class a</td>") < text.index("<td>class b</td>")
    _, page = write(tmp_path / "r.html", images=IMAGES, clusters=clusters)  # without labels
    assert page.tags.count("img") == 6


def test_every_metric_has_a_panel(tmp_path):
    metrics = [{"epoch": e, "loss": 2.0, "accuracy": 0.5, "bits_per_dim": 4.0} for e in range(3)]
    _, page = write(tmp_path / "r.html", metrics=metrics)
    assert page.tags.count("svg") == 3
    titles = [page.text.index(title) for title in ("Loss", "accuracy", "Bits per dimension")]
    assert titles == sorted(titles)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("reconstructions", (4, 16, 16, 3)),
        ("reconstructions", (4, 4, 8, 8, 3)),
        ("samples", (9,)),
        ("attention", (4, 8, 8, 3)),
    ],
)
def test_pictures_of_another_shape_are_refused(tmp_path, name, shape):
    with pytest.raises(ValueError, match=f"`{name}` must have the shape"):
        write(tmp_path / "r.html", **{name: np.zeros(shape)})
    assert not (tmp_path / "r.html").exists()
