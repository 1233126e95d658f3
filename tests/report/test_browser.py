import html
import json
import re

import browsers
import numpy as np
import PIL.Image
import pytest
from pages import Page

from keras_ssl.report import browser
from keras_ssl.report.charts import CLASSES

RNG = np.random.default_rng(0)
COUNT = 40
LABELS = np.arange(COUNT) % 3
FEATURES = (np.eye(3)[LABELS] @ RNG.normal(size=(3, 8)) + RNG.normal(size=(COUNT, 8))).astype("f4")
IMAGES = RNG.integers(0, 256, (COUNT, 16, 12, 3), dtype=np.uint8)
EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"alert('&amp;')\">"


@pytest.fixture(scope="module")
def pictures():
    return [browser.thumbnail(image) for image in IMAGES]


def make(pictures, count=COUNT, **options):
    arguments = {
        "title": "Map of photos",
        "note": "40 images.",
        "labels": LABELS[:count],
        "class_names": ["ant", "bee", "cat"],
        "files": [f"{'abc'[label]}/{i:02}.png" for i, label in enumerate(LABELS[:count])],
    }
    return browser.page(FEATURES[:count], pictures[:count], **(arguments | options))


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))


def test_the_page_is_whole_and_asks_no_network(pictures):
    text = make(pictures)
    page = Page(text)
    assert "Map of photos" in page.text and "t-SNE of their features" in page.text
    assert page.tags.count("script") == 2 and page.addresses == []
    assert "{{" not in text and not re.search(r"https?:|//\w+\.|@import|url\(|fetch|XMLHttp", text)
    data = data_of(text)
    assert data["classes"] == ["ant", "bee", "cat"] and data["label"] == LABELS.tolist()
    assert data["colours"] == CLASSES and data["name"][4] == "b/04.png"
    x, y = np.array(data["x"]), np.array(data["y"])
    assert x.min() == y.min() == 0 and max(x.max(), y.max()) == 4096
    assert all(p.startswith(("png;base64,", "jpeg;base64,")) for p in data["picture"])


def test_neighbours_are_those_of_greatest_cosine(pictures):
    data = data_of(make(pictures))
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    for row in range(COUNT):
        expected = np.argsort(-similarity[row])[:12]
        assert data["near"][row] == expected.tolist()
        np.testing.assert_allclose(data["cosine"][row], similarity[row, expected], atol=6e-4)


def test_neighbours_in_parts_are_the_same(pictures, monkeypatch):
    whole = data_of(make(pictures))
    monkeypatch.setattr(browser, "_ROWS", 7)
    assert data_of(make(pictures)) == whole


def test_hostile_names_stay_names(pictures):
    text = make(pictures, title=EVIL, note=EVIL, class_names=[EVIL, "{{data}}", "\u2028é"])
    assert text.count("<script") == 2 and text.count("</script") == 2 and EVIL not in text
    assert html.escape(EVIL) in text and "img" not in Page(text).tags
    data = data_of(text)
    assert data["classes"] == [EVIL, "{{data}}", "\u2028é"]
    assert data_of(make(pictures, files=[EVIL] * COUNT))["name"] == [EVIL] * COUNT


@pytest.mark.parametrize("count", [1, 2, 3, 13])
def test_few_images_are_enough(pictures, count):
    data = data_of(make(pictures, count))
    assert [len(near) for near in data["near"]] == [min(12, count - 1)] * count
    assert len(data["x"]) == count


def test_images_without_files_or_labels(pictures):
    data = data_of(make(pictures, files=None, labels=None, index=np.arange(COUNT) + 100))
    assert data["name"][3] == "image 103" and data["classes"] == [] and not data["files"]
    data = data_of(make(pictures, labels=np.where(LABELS == 0, -1, LABELS), class_names=None))
    assert data["classes"] == ["class 1", "class 2", "no label"] and data["label"][0] == 2


def test_features_that_cannot_be_shown_are_refused(pictures):
    with pytest.raises(ValueError, match="`features` must be finite.*1 of them"):
        browser.page(np.array([[1.0], [np.nan]]), pictures[:2], title="")
    with pytest.raises(ValueError, match="`pictures` must have an entry for each of the 40"):
        browser.page(FEATURES, pictures[:3], title="")


@pytest.mark.parametrize("shape", [(100, 200, 3), (9, 7, 1), (64, 64, 4)])
def test_thumbnails_are_small(shape):
    kind, data = browser.thumbnail(RNG.random(shape).astype("f4")).split(";base64,")
    assert kind in ("png", "jpeg") and len(data) < 12_000


# What a reader does, in one visit; each line tells what came of it.
ACTIONS = """
const told = {};
function press(target, key) {
  target.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
}
function point(kind, i) {
  const box = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new PointerEvent(kind, {clientX: xOf(i) + box.left,
    clientY: yOf(i) + box.top, pointerId: 1, bubbles: true}));
}
canvas.setPointerCapture = () => {};
function type(text) {
  byId("filter").value = text;
  byId("filter").dispatchEvent(new Event("input"));
}
told.linked = chosen;
told.neighbours = [...document.querySelectorAll("#panel li button")].map(b => +b.dataset.point);
document.querySelector("#panel li button").click();
told.followed = chosen;
point("pointermove", 7);
told.tip = tip.textContent;
point("pointerdown", 7);
point("pointerup", 7);
told.clicked = chosen;
press(canvas, "ArrowRight");
told.walked = [chosen !== 7, xOf(chosen) > xOf(7)];
press(canvas, "Enter");
press(document.activeElement, "ArrowRight");
told.focused = [+document.activeElement.dataset.point, data.near[chosen][1]];
told.spoken = byId("said").textContent;
const before = xOf(3);
canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -300, cancelable: true}));
told.zoomed = scale / fitted;
byId("all").click();
told.back = Math.abs(xOf(3) - before) < 1e-6;
type("BEE 1");
told.filtered = [byId("count").textContent, [...shown.keys()].filter(i => shown[i])];
type("");
byId("legend").children[2].click();
told.class = [byId("count").textContent, byId("legend").children[2].ariaPressed];
byId("legend").children[2].click();
press(canvas, "Escape");
told.nothing = [chosen, byId("panel").textContent];
choose(12);
paint();
told.images = document.querySelectorAll("img:not([src^=data])").length;
const result = document.createElement("pre");
result.id = "told";
result.textContent = JSON.stringify(told);
document.body.append(result);
"""


def test_in_a_browser(pictures, tmp_path):
    names = [f"{'abc'[label]}/{i:02}.png" for i, label in enumerate(LABELS)]
    names[12] = EVIL
    text = make(pictures, files=names)
    page, shot = tmp_path / "map of photos.html", tmp_path / "map.png"
    page.write_text(text.replace("</body>", f"<script>{ACTIONS}</script></body>"))
    document = browsers.visit(page, tmp_path / "profile", "#12", shot)
    told = json.loads(html.unescape(re.search(r'id="told">(.*?)</pre>', document, re.S).group(1)))
    near = data_of(text)["near"]
    assert told["linked"] == 12 and told["neighbours"] == near[12]
    assert told["followed"] == near[12][0] and told["clicked"] == 7
    assert told["tip"] == "b/07.pngbee" and all(told["walked"])
    assert told["focused"][0] == told["focused"][1] and "12 nearest images" in told["spoken"]
    assert told["zoomed"] > 1.3 and told["back"]
    bees = [i for i in range(COUNT) if LABELS[i] == 1 and "1" in names[i]]
    assert told["filtered"] == [f"{len(bees)} of 40", bees]
    assert told["class"] == ["13 of 40", "true"] and told["nothing"] == [-1, ""]
    assert "<title>Map of photos</title>" in document and told["images"] == 0
    assert html.escape(EVIL, quote=False) in document
    with PIL.Image.open(shot) as image:
        seen = set(image.convert("RGB").resize((600, 400)).getdata())
    assert len(seen) > 500  # pictures, not an empty canvas
