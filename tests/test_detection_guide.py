"""The guide to detection runs as it stands, on small networks and images: pretraining and all."""

import contextlib
import warnings

import numpy as np
import pytest
import toys
from PIL import Image
from test_readme import README, blocks, commands

from keras_ssl import cli

GUIDE = README.parent / "docs" / "pages" / "guides" / "detection.md"
# What is smaller here than on the page; KerasCV's blocks come in twos at least.
NETWORKS = {
    "--image_size=128": "--image_size=32",
    "filters=[64, 128, 256, 512]": "filters=[64, 8, 8, 8]",
    "num_blocks=[2, 2, 2, 2]": "num_blocks=[1, 1, 1, 1]",
}
SMALLER = {"512, 512, 3": "64, 64, 3", "epochs=10": "epochs=1, verbose=0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reader's folder, with images."""
    path = tmp_path_factory.mktemp("reader")
    (path / "path/to/images").mkdir(parents=True)
    for i, image in enumerate(toys.images(8, (32, 32, 3))):
        Image.fromarray(image).save(path / f"path/to/images/{i}.png")
    with contextlib.chdir(path):
        yield path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`")  # which KerasCV knows
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # said of every dataset
@pytest.mark.parametrize(("place", "library"), enumerate(["keras_cv", "keras_hub"]))
def test_the_guide_runs(folder, place, library):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages of theirs that are old
        pytest.importorskip(library, reason=f"{library} is not installed")
    words = "\n".join(commands(GUIDE)[place])
    for printed, small in NETWORKS.items():
        words = words.replace(printed, small)
    assert library in words and cli.main([*words.split("\n"), "--epochs=1", "--batch_size=8"]) == 0
    for code in blocks("python", GUIDE):
        if f"import {library}\n" not in code:
            continue
        for printed, small in SMALLER.items():
            code = code.replace(printed, small)
        names = {
            "images": toys.images(2, (64, 64, 3)),
            "boxes": np.array(
                [[[0, 0, 32, 32], [8, 8, 56, 56]], [[0, 0, 32, 32], [-1] * 4]], "float32"
            ),
            "classes": np.array([[0, 1], [0, -1]]),
            "small_images": toys.images(4, (32, 32, 3)),
            "labels": np.array([0, 1] * 2),
        }
        exec(compile(code, GUIDE.name, "exec"), names)
        model = names.get("detector") or names["classifier"]
        held = getattr(model.backbone, "image_encoder", model.backbone)
        assert held is names["network"] and np.isfinite(model.history.history["loss"]).all()
        if "found" in names:
            assert names["found"]["boxes"].shape[::2] == (2, 4)


def test_what_is_replaced_is_on_the_page():
    text = GUIDE.read_text()
    assert all(printed in text for printed in [*NETWORKS, *SMALLER])
    assert len(commands(GUIDE)) == 2 and len(blocks("python", GUIDE)) == 3
