"""Images that are wrong, or change."""

import functools
import itertools
import logging
import os
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import toys
from table import Row

from keras_ssl import data, evaluation


def _save(path, number=0, side=8, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(toys.images(1, (side, side, 3), number)[0]).save(path, **options)


def _fill(folder, count=3, **options):
    for number in range(count):
        _save(folder / f"{number}.png", number, **options)
    return folder


def _logged(function):
    """What `function` logs."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    try:
        return function(), "\n".join(lines)
    finally:
        logger.removeHandler(handler)


def _plain(image, seed):
    return {"views": (tf.ensure_shape(image, (8, 8, 3)),)}


# Folders


def _pipe(tmp):
    os.mkfifo(_fill(tmp) / "pipe.png")
    (tmp / "gone.png").symlink_to(tmp / "absent.png")
    (tmp / "link.png").symlink_to(tmp / "0.png")
    source, log = _logged(lambda: data.load(tmp))
    assert source.size == 4
    assert "pipe.png (no regular file)" in log and "gone.png" in log


def _loop(tmp):
    for name in "abc":
        (_fill(tmp / name) / "loop").symlink_to(tmp)
    (tmp / "self").symlink_to(tmp / "self")
    (tmp / "a" / "brother").symlink_to(tmp / "b")
    source, log = _logged(lambda: data.load(tmp))
    assert source.size == 9 and source.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert "a/loop" in log and "a/brother" in log


def _linked_classes(tmp):
    for name in "ab":
        (tmp / "images").mkdir(exist_ok=True)
        (tmp / "images" / name).symlink_to(_fill(tmp / "elsewhere" / name))
    source, log = _logged(lambda: data.load(tmp / "images"))
    assert source.class_names == ["a", "b"] and source.size == 6 and "Skipped" not in log


def _latin1_name(tmp):
    _fill(tmp)
    try:
        os.rename(tmp / "0.png", os.fsencode(tmp) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    data.load(tmp)


def _classes_by_name(tmp):
    for name in "abc":
        _save(tmp / "train" / name / "0.png", ord(name))
        if name != "a":
            _save(tmp / "val" / name / "0.png", ord(name))
    train, test = data.splits(tmp)
    assert test.class_names == ["a", "b", "c"] and test.labels.tolist() == [1, 2]
    encode = lambda x: np.reshape(x, (len(x), -1)).astype("float32") / 255 - 0.5  # noqa: E731
    size = {"image_size": (8, 8)}
    assert evaluation.knn_accuracy(encode, train, test, k=1, **size) == 1
    own = [data.from_folder(tmp, split=split) for split in ("train", "val")]
    assert own[1].labels.tolist() == [0, 1]
    assert evaluation.knn_accuracy(encode, *own, k=1, **size) == 1
    for name in "abc":
        _save(tmp / "train" / name / "1.png", ord(name))
    train = data.from_folder(tmp, split="train")
    assert evaluation.linear_probe(encode, train, own[1], grid=[1.0], **size).accuracy == 1


def _new_classes(tmp):
    for split, names in (("train", "bc"), ("val", "abd")):
        for name in names:
            _save(tmp / split / name / "0.png", ord(name))
    (_, test), log = _logged(lambda: data.splits(tmp))
    assert test.class_names == ["b", "c", "a", "d"] and test.labels.tolist() == [2, 0, 3]
    assert "['a', 'd']" in log and "lacks" in log


def _flat_val(tmp):
    for name in "ab":
        _fill(tmp / "train" / name)
    _fill(tmp / "val")
    data.splits(tmp)


# Files


@functools.cache
def _png(width, height, rows):
    """A grey PNG of this header, with so many rows of zeros."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes((width + 1) * rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def _huge_png(tmp):
    (_fill(tmp, 10) / "huge.png").write_bytes(_png(20_000, 20_000, 1))
    (source, log) = _logged(lambda: data.load(tmp))
    reason = "400000000 pixels are more than max_pixels=100000000"
    assert source.corrupt_reasons == {"huge.png": reason} and reason in log
    assert sum(1 for _ in source.ordered()) == 10


def _many_pixels(kind):
    def do(tmp):
        _fill(tmp, 10)
        for number, side in enumerate((200, 90)):
            image = PIL.Image.new("L" if kind in ("png", "npy") else "RGB", (side, side), 100)
            path = tmp / f"large{number}.{kind}"
            np.save(path, np.asarray(image)) if kind == "npy" else image.save(path)
        if kind == "npy":
            for number in range(10):
                np.save(tmp / f"{number}.npy", np.zeros((8, 8, 3), np.uint8))
            np.save(tmp / "large0.npy", np.zeros((200, 200, 3), np.uint8))
            np.save(tmp / "large1.npy", np.zeros((90, 90, 3), np.uint8))
        source = data.load(tmp, max_pixels=10_000)
        assert source.corrupt_reasons == {
            f"large0.{kind}": "40000 pixels are more than max_pixels=10000"
        }
        assert data.load(tmp, max_pixels=40_000).corrupt == []

    return Row(f"a {kind} of more pixels than max_pixels", do)


def _large_outside_the_sample(tmp):
    """Found while reading, and by `splits`, which takes the same arguments."""
    for name in "ab":
        for number in range(50):
            (tmp / name).mkdir(exist_ok=True)
            (tmp / name / f"{number}.png").write_bytes(_png(8, 8, 8))
    sample = np.unique(np.linspace(0, 99, 64).astype(int))
    names = sorted(f"{name}/{number}.png" for name in "ab" for number in range(50))
    chosen = names[next(i for i in range(100) if i not in sample)]
    (tmp / chosen).write_bytes(_png(200, 200, 200))
    train, test = data.splits(tmp, max_pixels=10_000, max_corrupt_fraction=0.01)
    assert train.corrupt == []
    assert sum(1 for part in (train, test) for _ in part.ordered()) == 99
    assert train.corrupt_reasons == {chosen: "40000 pixels are more than max_pixels=10000"}


def _damaged_files(tmp):
    """Every kind of damage is counted, with its reason."""
    _fill(tmp, 12)
    _save(tmp / "whole.jpg", side=64)
    jpeg = (tmp / "whole.jpg").read_bytes()
    damaged = {
        "cut.jpg": jpeg[:400],
        "empty.png": b"",
        "huge.webp": b"RIFF",
        "text.gif": b"text",
        "text.npy": b"text",
        "empty.npy": b"",
        "text.tiff": b"text",
    }
    for name, content in damaged.items():
        (tmp / name).write_bytes(content)
    np.save(tmp / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp / "first.npy", np.zeros((3, 64, 64), np.uint8))
    source = data.load(tmp, max_corrupt_fraction=0.5)
    assert set(source.corrupt_reasons) == {*damaged, "objects.npy", "first.npy"}
    assert all(len(reason) > 10 for reason in source.corrupt_reasons.values())
    assert "np.transpose(image, (1, 2, 0))" in source.corrupt_reasons["first.npy"]
    text = " ".join(source.corrupt_reasons.values())
    assert "pickle" not in text and "0x" not in text and "{{" not in text and "Op:" not in text


def _too_many_damaged(tmp):
    for number in range(3):
        (_fill(tmp) / f"{number}.jpg").write_bytes(b"text")
    data.load(tmp)


def _channels_first_npy(tmp):
    for number in range(3):
        np.save(tmp / f"{number}.npy", np.zeros((3, 64, 64), np.uint8))
    data.load(tmp)


# `.npz`


def _npz(damage):
    def do(tmp, read=data.load):
        path = tmp / "images.npz"
        np.savez(path, images=toys.images(4), labels=np.arange(4))
        content = path.read_bytes()
        path.write_bytes(damage(content))
        with pytest.raises(ValueError, match="cannot be read as .npz") as raised:
            read(path)
        message = str(raised.value)
        assert str(path) in message and "np.savez" in message and "pickle" not in message

    return do


def _flipped(content):
    return content[:300] + bytes([content[300] ^ 255]) + content[301:]


def _npz_rows():
    damages = {
        "cut short": lambda content: content[: len(content) // 2],
        "empty": lambda content: b"",
        "text": lambda content: b"just some text",
        "with a changed byte": _flipped,
    }
    for name, damage in damages.items():
        yield Row(f"an .npz {name}", _npz(damage))
        read = lambda path: data.splits(path)  # noqa: E731
        yield Row(f"an .npz {name}, for splits", functools.partial(_npz(damage), read=read))


def _npz_objects(tmp):
    images = np.empty(2, object)
    images[:] = list(toys.images(2))
    np.savez(tmp / "a.npz", images=images)
    data.load(tmp / "a.npz")


# Arrays and datasets


def _dataset(spec):
    return tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)


def _generator(passes):
    """A dataset whose generator yields on its first passes alone."""
    turns = itertools.count()

    def generate():
        if next(turns) < passes:
            yield from toys.images(16)

    spec = tf.TensorSpec((8, 8, 3), tf.uint8)
    return tf.data.Dataset.from_generator(generate, output_signature=spec)


def _stream_of_a_used_up_generator(tmp):
    source = data.load(_generator(3))  # counting, the look behind it, and one epoch
    stream = data.stream(source, _plain, 8, 0)
    assert sum(1 for _ in stream.take(2)) == 2
    with pytest.raises(tf.errors.OpError) as raised:
        list(data.stream(source, _plain, 8, 0).take(2))
    message = data.unusable_images(raised.value)
    assert "nothing on a later pass" in message and "lambda: make_generator()" in message


def _fit_on_a_used_up_generator(tmp):
    toys.Follower(toys.tiny_backbone()).fit(_generator(3), batch_size=8, epochs=2, verbose=0)


def _arrays_of_a_used_up_generator(tmp):
    data.load(_generator(2)).arrays((8, 8))


_PASS = ("nothing on a later pass", "from_generator(lambda", "cache()")
_FIRST = ("channels last", "(3, 64, 64)", "transpose")

ROWS = [
    Row("a pipe and a dead link among the images", _pipe),
    Row("links to folders that go round in circles", _loop),
    Row("classes that are links", _linked_classes),
    Row("a file name that is not UTF-8", _latin1_name, (r"'caf\udce9.png'", "UTF-8", "Rename")),
    Row("classes of train that val lacks", _classes_by_name),
    Row("classes of val that train lacks", _new_classes),
    Row("val without class folders", _flat_val, ("/val", "sub-folder a class", "/train")),
    Row("a small PNG of 400 million pixels", _huge_png),
    *map(_many_pixels, ("png", "jpg", "gif", "bmp", "webp", "npy")),
    Row("a large image outside the sample", _large_outside_the_sample),
    Row("damaged files of every kind", _damaged_files),
    Row(
        "too many damaged files",
        _too_many_damaged,
        ("3 of 6", "0.jpg: no image of a kind", "allow more with max_corrupt_fraction"),
    ),
    Row("max_pixels=0", lambda tmp: data.load(_fill(tmp), max_pixels=0), ("max_pixels", "0")),
    *_npz_rows(),
    Row("an .npz of objects", _npz_objects, ("a.npz", "Python objects", "np.savez")),
    Row(
        "an array with channels first",
        lambda tmp: data.load(np.zeros((4, 3, 32, 32), np.uint8)),
        ("channels last", "(4, 3, 32, 32)", "np.transpose(images, (0, 2, 3, 1))"),
    ),
    Row(".npy files with channels first", _channels_first_npy, (*_FIRST, "(1, 2, 0)")),
    Row(
        "a dataset with channels first",
        lambda tmp: data.load(_dataset(tf.TensorSpec((3, 64, 64), tf.uint8))),
        (*_FIRST, "tf.transpose(image, (1, 2, 0))"),
    ),
    Row(
        "a dataset of batches with channels first",
        lambda tmp: data.load(_dataset(tf.TensorSpec((None, 3, 64, 64), tf.uint8))),
        ("channels last", "tf.transpose(image, (0, 2, 3, 1))"),
    ),
    Row("a generator that counting used up", lambda tmp: data.load(_generator(1)), _PASS),
    Row("a generator that an epoch used up", _stream_of_a_used_up_generator),
    Row("fit on a generator that an epoch used up", _fit_on_a_used_up_generator, _PASS),
    Row("evaluation images of a used-up generator", _arrays_of_a_used_up_generator, _PASS),
    *(
        Row(
            f"image_size={size!r}, for {function.__name__}",
            functools.partial(lambda f, size, tmp: f("shapes", image_size=size), function, size),
            ("`image_size`", f"image_size={size!r}", "positive integer"),
        )
        for function in (data.load, data.splits)
        for size in (0, -8, 8.5, True, (8, 0), (8,))
    ),
]
