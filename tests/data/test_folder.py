"""Folders: labels, kinds of files, and files that cannot be read."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from keras_ssl import data, views


def pixels_of(number, shape=(16, 16, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)


def fill(folder, count, pattern="{:03d}.png"):
    for number in range(count):
        save(folder / pattern.format(number), pixels_of(number))
    return folder


def images(source):
    return {int(e["index"]): e["image"] for e in source.ordered().as_numpy_iterator()}


def test_images_are_read_in_the_order_of_their_names(tmp_path):
    source = data.load(fill(tmp_path, 5))
    assert source.size == 5 and source.random_access and source.labels is None
    assert source.image_shape == (None, None, 3) and source.dtype == "uint8"
    assert source.typical_size == (16, 16)
    for index, image in images(source).items():
        np.testing.assert_array_equal(image, pixels_of(index))


def test_folders_are_labels_for_evaluation(tmp_path):
    for number, name in enumerate(["cat/a.png", "cat/deep/er/b.png", "ant/c.PNG", "dog/d.png"]):
        save(tmp_path / name, pixels_of(number))
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path / ".hidden" / "x.png", pixels_of(9))
    source = data.from_folder(tmp_path)
    assert source.class_names == ["ant", "cat", "dog"]
    assert source.labels.tolist() == [0, 1, 1, 2] and source.labels.dtype == np.int64
    shots, labels = source.arrays((16, 16))
    np.testing.assert_array_equal(shots[0], pixels_of(2))
    assert labels.tolist() == [0, 1, 1, 2]


def test_names_of_the_files(tmp_path):
    source = data.from_folder(fill(tmp_path / "a", 4, "deep/{}.png").parent)
    names = [f"a/deep/{number}.png" for number in range(4)]
    assert source.files == names
    part = source.subset(np.array([3, 1, 2])).subset(np.array([2, 0]))
    assert part.files == [names[2], names[3]] and images(part)[1].shape == (16, 16, 3)
    np.testing.assert_array_equal(images(part)[1], pixels_of(3))
    assert data.from_array(np.zeros((2, 4, 4, 3), np.uint8)).files is None


def test_no_labels_without_classes(tmp_path):
    fill(tmp_path / "one" / "only", 3)
    assert data.from_folder(tmp_path / "one").labels is None
    fill(tmp_path / "one", 2)  # some beside the folder, some in it
    assert data.from_folder(tmp_path / "one").labels is None
    fill(tmp_path / "splits" / "train", 3)
    fill(tmp_path / "splits" / "test", 2)
    assert data.from_folder(tmp_path / "splits").labels is None
    assert data.from_folder(tmp_path / "splits", split="train").size == 3
    with pytest.raises(ValueError, match=r"no folder .*dev.*\['test', 'train'\]"):
        data.from_folder(tmp_path / "splits", split="dev")


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "jpg", "webp", "tiff", "ppm"])
def test_formats(tmp_path, ending):
    gradient = np.zeros((24, 20, 3), np.uint8) + np.arange(24, dtype=np.uint8)[:, None, None] * 10
    options = {"lossless": True} if ending == "webp" else {}
    options = {"quality": 100} if ending == "jpg" else options
    for number in range(2):
        save(tmp_path / f"{number}.{ending}", gradient, **options)
    fill(tmp_path, 2, "x{}.png")
    decoded = images(data.from_folder(tmp_path))
    np.testing.assert_allclose(decoded[0], gradient, atol=4 if ending == "jpg" else 0)
    np.testing.assert_array_equal(decoded[3], pixels_of(1))


def test_first_picture_of_an_animation(tmp_path):
    frames = [PIL.Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (30, 200)]
    for name in "ab":
        frames[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=frames[1:])
    assert (images(data.from_folder(tmp_path))[0] == 30).all()


@pytest.mark.parametrize("ending", ["jpg", "webp", "tiff"])
def test_photographs_are_turned_upright(tmp_path, ending):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    for number in range(9):  # 0, which means nothing, and 1 to 8
        exif = PIL.Image.Exif()
        exif[0x0112] = number
        lossless = {"lossless": True} if ending == "webp" else {}
        lossless = {"quality": 100, "subsampling": 0} if ending == "jpg" else lossless
        save(tmp_path / f"{number}.{ending}", pixels, exif=exif, **lossless)
    source = data.from_folder(tmp_path)
    for number, image in images(source).items():
        with PIL.Image.open(tmp_path / f"{number}.{ending}") as file:
            expected = np.asarray(PIL.ImageOps.exif_transpose(file))
        assert image.shape == ((24, 16, 3) if number >= 5 else (16, 24, 3))
        np.testing.assert_allclose(image, expected, atol=4 if ending == "jpg" else 0)
    upright = [number for number, image in images(source).items() if image[0, 0, 0] > 240]
    assert upright == [0, 1, 5]  # red stands in the upper left corner


def test_damaged_exif_data_cost_no_pixel(tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.jpg", pixels_of(0), exif=b"Exif\0\0MM no such thing")
    source = data.from_folder(tmp_path)
    assert source.corrupt == [] and images(source)[1].shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True, "quality": 30}),
        ("jpg", {"subsampling": 0, "optimize": True}),
        ("png", {}),
        ("gif", {}),
        ("bmp", {}),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_ordinary_files_are_read_without_python(tmp_path, monkeypatch, ending, options, grey):
    def never(content, max_pixels):
        raise ValueError("asked")

    for number in range(3):
        save(tmp_path / f"{number}.{ending}", pixels_of(number, (16, 16, 3)[: 3 - grey]), **options)
    monkeypatch.setattr("keras_ssl.data.decoding._inspect", never)
    assert len(images(data.from_folder(tmp_path))) == 3
    with pytest.raises(ValueError, match="asked"):  # of files whose header says 256 pixels
        data.from_folder(tmp_path, max_pixels=257)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp"])
def test_max_pixels_is_exact(tmp_path, ending):
    for number, shape in enumerate([(16, 600, 3), (600, 16, 3)]):
        save(tmp_path / f"{number}.{ending}", pixels_of(number, shape))
    assert data.from_folder(tmp_path, max_pixels=9600).corrupt == []
    with pytest.raises(ValueError, match="9600 pixels are more than max_pixels=9599"):
        data.from_folder(tmp_path, max_pixels=9599)


def test_grey_stays_grey_only_if_all_are(tmp_path):
    grey = pixels_of(0, (16, 16))
    save(tmp_path / "a.png", grey)
    save(tmp_path / "b.bmp", grey)
    PIL.Image.fromarray(np.stack([grey, grey], -1), "LA").save(tmp_path / "c.png")
    source = data.from_folder(tmp_path)
    assert source.image_shape == (None, None, 1)
    for image in images(source).values():
        np.testing.assert_array_equal(image[..., 0], grey)
    save(tmp_path / "d.jpg", pixels_of(1))
    source = data.from_folder(tmp_path)
    assert source.image_shape == (None, None, 3)
    for index in range(3):
        np.testing.assert_array_equal(images(source)[index], np.repeat(grey[..., None], 3, -1))


def test_transparency_is_dropped(tmp_path):
    rgba = pixels_of(0, (16, 16, 4))
    for name in ("a.png", "b.webp", "c.tiff"):
        options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        save(tmp_path / name, rgba, **options)
    for image in images(data.from_folder(tmp_path)).values():
        np.testing.assert_array_equal(image, rgba[..., :3])


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_become_floats(tmp_path, ending):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    save(tmp_path / f"a.{ending}", deep)
    save(tmp_path / "b.png", pixels_of(0, (16, 16)))
    source = data.from_folder(tmp_path)
    assert source.dtype == "float32" and source.image_shape[-1] == 1
    np.testing.assert_allclose(images(source)[0][..., 0], deep / 65535, atol=1e-6)
    np.testing.assert_allclose(images(source)[1], pixels_of(0, (16, 16, 1)) / 255, atol=1e-6)


def test_many_channels_from_npy(tmp_path):
    arrays = [pixels_of(i, (16, 16, 7)) for i in range(4)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    source = data.from_folder(tmp_path)
    assert source.image_shape == (None, None, 7) and source.dtype == "uint8"
    np.testing.assert_array_equal(images(source)[3], arrays[3])
    batch = next(iter(data.stream(source, views.simclr(8), 4, 0)))
    assert batch["views"][0].shape == (4, 8, 8, 7)
    save(tmp_path / "z.png", pixels_of(0))
    with pytest.raises(ValueError, match=r"same number of channels .* \[3, 7\]"):
        data.from_folder(tmp_path)


def test_npy_of_floats(tmp_path):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), 0.25 * number))
    assert (images(data.from_folder(tmp_path))[1] == 0.25).all()
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), 200.0))
    with pytest.raises(ValueError, match=r"cannot be read.*\n.*0\.npy(.|\n)*lie in \[0, 1\]"):
        data.from_folder(tmp_path)


def damage(folder, numbers):
    """Truncated, empty and text files in the place of good ones."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels_of(0, (64, 64, 3))).save(buffer, "jpeg")
    kinds = [buffer.getvalue()[:600], b"", b"just some text"]
    for place, number in enumerate(numbers):
        (folder / f"{number:03d}.jpg").write_bytes(kinds[place % 3])
        (folder / f"{number:03d}.png").unlink()


def test_unreadable_files_are_skipped_named_and_replaced(tmp_path, caplog):
    damage(fill(tmp_path, 40), [5, 17, 30])
    with caplog.at_level("WARNING", logger="absl"):
        source = data.from_folder(tmp_path)
    names = ["005.jpg", "017.jpg", "030.jpg"]
    assert all(caplog.text.count(name) == 1 for name in names)
    assert source.corrupt == names  # 40 files: all are in the sample
    assert sorted(images(source)) == [i for i in range(40) if i not in (5, 17, 30)]
    assert len(source.arrays((16, 16))[0]) == 37

    def plain(image, seed):
        return {"image": image}

    batches = list(data.stream(source, plain, 8, 0).take(10).as_numpy_iterator())
    assert [len(batch["index"]) for batch in batches] == [8] * 10
    for batch in batches:
        assert not set(batch["index"]) & {5, 17, 30}
        for index, image in zip(batch["index"], batch["image"], strict=True):
            np.testing.assert_array_equal(image, pixels_of(index))
    assert set(np.concatenate([b["index"] for b in batches[:5]])) == set(images(source))
    parts = [data.stream(source, plain, 8, 0, num_workers=2, worker=w) for w in range(2)]
    for batch, *shares in zip(batches, *(p.as_numpy_iterator() for p in parts), strict=False):
        np.testing.assert_array_equal(
            batch["index"], np.concatenate([share["index"] for share in shares])
        )
    assert source.corrupt == names


@pytest.mark.parametrize("batch_size", [7, 33, 70])
def test_files_give_the_batches_of_their_arrays(tmp_path, batch_size):
    """Files are read in chunks that batches are made of; it does not show."""
    source = data.from_folder(fill(tmp_path, 70))
    array = data.from_array(source.arrays((16, 16))[0])
    pipeline = views.simclr(8)
    for ours, plain in zip(
        data.stream(source, pipeline, batch_size, 3).take(12).as_numpy_iterator(),
        data.stream(array, pipeline, batch_size, 3).take(12).as_numpy_iterator(),
    ):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, plain)


def test_files_that_go_bad_later_stop_the_run(tmp_path):
    source = data.from_folder(fill(tmp_path, 40))
    stream = data.stream(source, views.simclr(16), 8, 0)
    list(stream.take(2))
    for number in range(20):
        (tmp_path / f"{number:03d}.png").write_bytes(b"")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\d+ of 40 image files cannot"):
        list(stream.take(20))
    assert len(source.corrupt) >= 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be read"):
        list(source.ordered())


def test_too_many_unreadable_files_stop_at_once(tmp_path):
    damage(fill(tmp_path, 10), [1, 2, 3])
    with pytest.raises(ValueError, match=r"3 of 10 .*(\n.*)*001\.jpg"):
        data.from_folder(tmp_path)
    assert data.from_folder(tmp_path, max_corrupt_fraction=0.5).size == 10
    damage(tmp_path, [0, 4, 5, 6, 7, 8, 9])
    with pytest.raises(ValueError, match="10 of 10"):
        data.from_folder(tmp_path, max_corrupt_fraction=1.0)


def test_subset_keeps_the_files_names(tmp_path):
    damage(fill(tmp_path, 40), [5])
    part = data.from_folder(tmp_path).subset(np.array([3, 5, 39]))
    read = images(part)
    assert sorted(read) == [0, 2]
    np.testing.assert_array_equal(read[2], pixels_of(39))
    assert part.corrupt == ["005.jpg"]


def test_images_smaller_than_the_views(tmp_path):
    source = data.from_folder(fill(tmp_path, 4))
    with pytest.raises(ValueError, match=r"\(16, 16\) .* views of \(32, 32\)"):
        data.stream(source, views.simclr(32), 2, 0)


def test_sizes_may_differ(tmp_path):
    for number, shape in enumerate([(20, 40, 3), (30, 30, 3), (50, 25, 3)]):
        save(tmp_path / f"{number}.png", pixels_of(number, shape))
    source = data.from_folder(tmp_path)
    assert source.typical_size == (30, 30)
    arrays, _ = source.arrays((16, 16))
    assert arrays.shape == (3, 16, 16, 3) and arrays.dtype == np.uint8
    assert next(iter(data.stream(source, views.simclr(16), 3, 0)))["views"][0].shape[0] == 3


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images(tmp_path, count):
    with pytest.raises(ValueError, match=f"at least 2 .* Received: {count}"):
        data.from_folder(fill(tmp_path, count))


def test_real_photographs(real_data):
    source = data.load(real_data / "tiny_imagenet", split="val")
    assert source.size == 2020 and len(source.class_names) == 101
    assert np.bincount(source.labels).tolist() == [20] * 101
    assert source.typical_size == (64, 64) and source.image_shape == (None, None, 3)
    arrays, labels = source.arrays((32, 32), limit=300)
    assert arrays.shape == (300, 32, 32, 3) and len(set(labels)) > 80
    batch = next(iter(data.stream(source, views.simclr(64), 32, 0)))
    assert batch["views"][0].shape == (32, 64, 64, 3) and source.corrupt == []
