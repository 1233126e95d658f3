"""RandAugment's operations against Pillow's, and how often each is drawn."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_ssl import views
from keras_ssl.views import image_ops, rand_augment
from keras_ssl.views.rand_augment import OPERATIONS, RandAugment

FILL = (124 / 255, 116 / 255, 104 / 255)
MOVES = {  # inverse maps as Pillow takes them, of an image of 20 x 16 (width x height)
    "shear_x": (1, 0.3, 0, 0, 1, 0),
    "shear_y": (1, 0, 0, 0.3, 1, 0),
    "shift_x": (1, 0, 9, 0, 1, 0),
    "shift_y": (1, 0, 0, 0, 1, 7.2),
}


@pytest.fixture(scope="module")
def photo():
    """A smooth image in 8-bit values, of another height than width."""
    y, x = np.mgrid[:16, :20] / 20
    channels = [np.sin(3 * x + 2 * y), np.cos(4 * x * y), x - y]
    image = np.stack([(c - c.min()) / np.ptp(c) for c in channels], -1)
    return (20 + 190 * image).astype("uint8")


def ours(name, image, level=1.0, sign=1.0):
    x = tf.constant(image / 255, tf.float32)
    return OPERATIONS[name](x, tf.constant(level), tf.constant(sign), FILL).numpy() * 255


@pytest.mark.parametrize(
    ("name", "pillow", "levels"),
    [
        ("auto_contrast", lambda i, m: ImageOps.autocontrast(i), [1.0]),
        ("equalize", lambda i, m: ImageOps.equalize(i), [1.0]),
        ("invert", lambda i, m: ImageOps.invert(i), [1.0]),
        ("posterize", lambda i, m: ImageOps.posterize(i, int(4 * m)), [0.25, 0.6, 1.0]),
        ("solarize", lambda i, m: ImageOps.solarize(i, int(256 * m)), [0.3, 0.5, 1.0]),
        ("color", lambda i, m: ImageEnhance.Color(i).enhance(0.1 + 1.8 * m), [0.0, 0.5, 1.0]),
        ("contrast", lambda i, m: ImageEnhance.Contrast(i).enhance(0.1 + 1.8 * m), [0.1, 1.0]),
        ("brightness", lambda i, m: ImageEnhance.Brightness(i).enhance(0.1 + 1.8 * m), [0.0, 1.0]),
        ("sharpness", lambda i, m: ImageEnhance.Sharpness(i).enhance(0.1 + 1.8 * m), [0.0, 1.0]),
    ],
)
def test_values_are_pillows(photo, name, pillow, levels):
    for level in levels:
        expected = np.asarray(pillow(Image.fromarray(photo), level), "float32")
        np.testing.assert_allclose(ours(name, photo, level), expected, atol=1.6)


def test_equalize_of_few_pixels_is_the_image():
    flat = np.full((4, 4, 3), 7, "uint8")
    np.testing.assert_allclose(ours("equalize", flat), flat, atol=1e-3)
    np.testing.assert_allclose(ours("auto_contrast", flat), flat, atol=1e-3)


def test_solarize_add_lightens_the_dark_half_alone():
    image = np.array([[[0, 100, 127], [128, 200, 255]]], "uint8")
    expected = [[[110, 210, 237], [128, 200, 255]]]
    np.testing.assert_allclose(ours("solarize_add", image), expected, atol=1e-3)


@pytest.mark.parametrize("name", [*MOVES, "rotate"])
def test_movements_are_pillows(photo, name):
    picture, fill = Image.fromarray(photo), tuple(round(255 * c) for c in FILL)
    if name == "rotate":
        moved = picture.rotate(30, Image.Resampling.BILINEAR, fillcolor=fill)
    else:
        moved = picture.transform(
            picture.size, Image.Transform.AFFINE, MOVES[name], Image.Resampling.BILINEAR,
            fillcolor=fill,
        )  # fmt: skip
    difference = np.abs(ours(name, photo) - np.asarray(moved, "float32")).max(-1)
    assert (difference > 2).mean() < 0.1  # Pillow's edge is hard, this library's one pixel wide
    there = ours(name, photo, level=0.5, sign=-1.0)
    assert np.abs(there - ours(name, photo, level=0.5)).max() > 5


def many(op, image, count=600):
    dataset = tf.data.Dataset.range(count).map(
        lambda i: op(image, tf.stack([tf.cast(i, tf.int32), 3]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


def test_each_operation_is_drawn_as_often_and_carried_out_half_the_time(photo, monkeypatch):
    marks = {
        name: lambda x, m, s, f, i=i: tf.fill(tf.shape(x), (i + 1) / 20)
        for i, name in enumerate(OPERATIONS)
    }
    monkeypatch.setattr(rand_augment, "OPERATIONS", marks)
    results = many(RandAugment(count=1), tf.zeros((1, 1, 1)), 3000)[:, 0, 0, 0]
    drawn = np.bincount(np.round(results * 20).astype(int), minlength=16)
    assert abs(drawn[0] / 3000 - 0.5) < 0.03
    assert drawn[1:].min() > 65 and drawn[1:].max() < 140  # 100 each


def test_magnitudes_are_normal_and_limited(monkeypatch):
    monkeypatch.setattr(
        rand_augment, "OPERATIONS", {"level": lambda x, m, s, f: tf.fill(tf.shape(x), m)}
    )
    levels = many(RandAugment(1, magnitude=5.0, deviation=0.5, p=1.0), tf.zeros((1, 1, 1)), 2000)
    assert abs(levels.mean() - 0.5) < 5e-3 and abs(levels.std() - 0.05) < 5e-3
    at_the_end = many(RandAugment(1, magnitude=10, p=1.0), tf.zeros((1, 1, 1)), 500)
    assert at_the_end.max() == 1.0 and (at_the_end == 1).mean() > 0.4


def test_probability_zero_is_the_image_and_results_stay_in_range(photo):
    image = tf.constant(photo)
    still = many(RandAugment(p=0.0), image, 5)
    np.testing.assert_allclose(still, np.broadcast_to(photo / 255, still.shape), atol=1e-6)
    moved = many(RandAugment(count=3, p=1.0, magnitude=7), image)
    assert moved.shape == (600, 16, 20, 3) and moved.min() >= 0 and moved.max() <= 1
    assert (np.abs(moved - photo / 255).max((1, 2, 3)) > 0.01).mean() > 0.95
    seed = tf.constant([3, 4])
    np.testing.assert_array_equal(RandAugment()(image, seed), RandAugment()(image, seed))


def test_photometric_is_pillows_four_in_a_row(photo):
    """Within the levels by which Pillow's roundings differ, for each of the draws of 60 seeds."""
    image, changed, kinds = tf.constant(photo), 0, set()
    for number in range(60):
        seed = tf.constant([number, 3])
        draws = image_ops.uniforms(seed, 4).numpy()
        result = views.Photometric()(image, seed).numpy() * 255
        expected = Image.fromarray(photo)
        if draws[0] < 0.66:
            changed += 1
            bits, threshold = 4 + int(5 * draws[1]), int(257 * draws[3])
            kinds.add(bits)
            expected = ImageOps.posterize(expected, bits)
            expected = ImageEnhance.Sharpness(expected).enhance(0.1 + 1.8 * draws[2])
            expected = ImageOps.autocontrast(ImageOps.solarize(expected, threshold))
        # A value that rounding carries over the threshold is inverted in one and not in the other.
        difference = np.abs(result - np.asarray(expected, "float32"))
        assert np.median(difference) < 3 and (difference > 8).mean() < 0.1
    assert 30 <= changed <= 50 and kinds == {4, 5, 6, 7, 8}


def test_photometric_draws_every_threshold(monkeypatch):
    seen = over_thresholds(monkeypatch)
    assert seen.min() == 0 and seen.max() == 256 and abs(seen.mean() - 128) < 8


def over_thresholds(monkeypatch):
    monkeypatch.setattr(rand_augment, "auto_contrast", lambda x: x)
    monkeypatch.setattr(
        rand_augment.image_ops, "solarize", lambda x, t: tf.fill(tf.shape(x), t * 255 / 256)
    )
    return many(views.Photometric(1.0), tf.zeros((3, 3, 1)), 2000)[:, 0, 0, 0] * 256


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    image = tf.random.stateless_uniform((9, 9, channels), (1, 2))
    assert many(RandAugment(p=1.0, count=2), image, 60).shape == (60, 9, 9, channels)


def test_config_and_wrong_arguments():
    op = RandAugment(3, 7.0, 0.1, 0.4, (0.1, 0.2, 0.3))
    again = RandAugment.from_config(op.get_config())
    assert repr(again) == repr(op) and again.fill == (0.1, 0.2, 0.3)
    assert views.RandAugment is RandAugment
    for wrong, message in (
        ({"count": 0}, "count=0"),
        ({"magnitude": 11}, "magnitude=11"),
        ({"deviation": -1}, "deviation=-1"),
        ({"p": 2}, "`p`"),
    ):
        with pytest.raises(ValueError, match=message):
            RandAugment(**wrong)
    with pytest.raises(ValueError, match="`fill`.*2 channels"):
        RandAugment(fill=(0.1, 0.2, 0.3))(tf.zeros((4, 4, 2)), tf.constant([1, 2]))
