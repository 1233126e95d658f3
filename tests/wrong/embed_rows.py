"""`embed`: encoders, images and files that do not go together."""

import functools
import sys
from unittest import mock

import keras
import numpy as np
import toys
from table import Row

import keras_ssl
from keras_ssl import evaluation
from keras_ssl.backbones import Backbone


@functools.cache
def encoder():
    return toys.tiny_backbone()


def embed(out, network=None, images=None, **options):
    """Into a file that cannot be: no image may be encoded."""
    images = toys.images(4) if images is None else images
    options = {"verbose": False, **options}
    with mock.patch.object(evaluation, "extract", side_effect=AssertionError):
        keras_ssl.embed(network or encoder(), images, out, **options)


def file(tmp):
    (tmp / "file").write_text("kept")
    return tmp / "file"


def under_a_file(tmp):
    try:
        embed(file(tmp) / "new" / "f.npz")
    finally:
        assert (tmp / "file").read_text() == "kept"


def without_pyarrow(tmp):
    with mock.patch.dict(sys.modules, {"pyarrow": None}):
        embed(tmp / "f.parquet")


def of_one_size(tmp):
    inputs = keras.Input((8, 8, 3))
    network = Backbone(keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)), name="fixed")
    embed(tmp / "f.npz", network, image_size=16)


def diverged(tmp):
    network = toys.tiny_backbone()
    network.set_weights([w * np.nan for w in network.get_weights()])
    try:
        keras_ssl.embed(network, toys.images(4), tmp / "new" / "f.npz", verbose=False)
    finally:
        assert list(tmp.iterdir()) == []


def too_many_unreadable(tmp):
    for number, image in enumerate(toys.images(6)):
        keras.utils.save_img(tmp / f"{number}.png", image, scale=False)
    source = keras_ssl.data.from_folder(tmp, max_corrupt_fraction=0.2)
    for number in (1, 3):
        (tmp / f"{number}.png").write_bytes(b"damaged since")
    try:
        keras_ssl.embed(encoder(), source, tmp / "f.csv", verbose=False)
    finally:
        assert not list(tmp.glob("*f*"))


ROWS = [
    Row(
        "features to a file of unknown kind",
        lambda tmp: embed(tmp / "new" / "f.txt"),
        ("`out` must end in .npz", ".parquet", ".csv", ".html", "f.txt"),
    ),
    Row("features to None", lambda tmp: embed(None), ("`out`", "out=None", "features.npz")),
    Row(
        "features to a folder",
        lambda tmp: ((tmp / "f.npz").mkdir(), embed(tmp / "f.npz")),
        ("`out` must be a file", "a folder", "features.npz"),
    ),
    Row("features under a file", under_a_file, ("`out` must be a file that can be written",)),
    Row(
        "features to too long a name",
        lambda tmp: embed(tmp / ("x" * 300 + ".npz")),
        ("`out` must be a file that can be written", "Choose another"),
    ),
    Row("parquet without pyarrow", without_pyarrow, ("pip install pyarrow", ".csv"), ImportError),
    Row(
        "grey images for an encoder of colours",
        lambda tmp: embed(tmp / "f.npz", images=toys.images(4, (8, 8, 1))),
        ("same number of channels", "an encoder for 3", "with 1"),
    ),
    Row(
        "a size that the encoder does not take",
        of_one_size,
        ("`image_size` must be the encoder's", "(8, 8)", "image_size=16", "Leave it out"),
    ),
    Row(
        "features at image_size=0",
        lambda tmp: embed(tmp / "f.npz", image_size=0),
        ("`image_size` must be a positive integer", "image_size=0"),
    ),
    *(
        Row(
            f"features with {name}={value!r}",
            lambda tmp, name=name, value=value: embed(tmp / "f.npz", **{name: value}),
            (f"`{name}` must be a positive integer", f"{name}={value!r}"),
        )
        for name, value in (("batch_size", 0), ("points", 2.5), ("points", True))
    ),
    Row("features that are NaN", diverged, ("gives NaN or infinity", "images 0 to 3", "another")),
    Row(
        "too many files damaged while they are encoded",
        too_many_unreadable,
        ("2 of 6 image files cannot be read", "1.png", "3.png", "max_corrupt_fraction=0.2"),
    ),
]
