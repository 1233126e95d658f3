"""Each image operation against NumPy, Pillow, colorsys or SciPy."""

import colorsys
import itertools
import math

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf

from keras_ssl.views import image_ops


def random_image(height=12, width=10, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels)).astype(np.float32)


def seed_of(number):
    return tf.constant([number, 7], tf.int32)


def over_seeds(function, count):
    """`function(seed)` for many seeds, as one array each output."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: function(tf.stack([tf.cast(i, tf.int32), 3]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


def per_pixel(image, function):
    return np.array([[function(*pixel) for pixel in row] for row in image.astype(np.float64)])


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_brightness_multiplies(factor):
    image = random_image()
    np.testing.assert_allclose(
        image_ops.adjust_brightness(image, factor), np.minimum(image * factor, 1), atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_contrast_spreads_each_channel_about_its_mean(factor, channels):
    image = random_image(channels=channels)
    mean = image.mean((0, 1))
    np.testing.assert_allclose(
        image_ops.adjust_contrast(tf.constant(image), factor),
        np.clip(mean + factor * (image - mean), 0, 1),
        atol=1e-5,
    )


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_saturation_is_colorsys_s(factor):
    image = random_image()

    def expected(*rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb(h, min(1.0, s * factor), v)

    np.testing.assert_allclose(
        image_ops.adjust_saturation(tf.constant(image), factor),
        per_pixel(image, expected),
        atol=1e-5,
    )


def test_saturation_of_other_channel_counts():
    image = tf.constant(random_image(channels=5))
    mean = image.numpy().mean(-1, keepdims=True)
    grey = image_ops.adjust_saturation(image, 0.0)
    np.testing.assert_allclose(grey, np.repeat(mean, 5, -1), atol=1e-6)
    more = image_ops.adjust_saturation(image, 1.5)
    np.testing.assert_allclose(more, np.clip(mean + 1.5 * (image - mean), 0, 1), atol=1e-6)
    single = random_image(channels=1)
    np.testing.assert_array_equal(image_ops.adjust_saturation(tf.constant(single), 0.0), single)


@pytest.mark.parametrize("turn", [-0.3, 0.0, 0.1, 0.5])
def test_hue_is_colorsys_h(turn):
    image = random_image()

    def expected(*rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb((h + turn) % 1, s, v)

    np.testing.assert_allclose(
        image_ops.rotate_hue(tf.constant(image), turn), per_pixel(image, expected), atol=1e-5
    )


def test_random_hue_of_other_channel_counts_is_a_gain_each():
    image = tf.constant(np.full((4, 4, 5), 0.5, np.float32))
    draws = tf.constant([0.0, 0.25, 0.5, 0.75, 1.0])
    shifted = image_ops.random_hue(image, draws, 0.1)
    np.testing.assert_allclose(shifted[0, 0], 0.5 * np.array([0.8, 0.9, 1.0, 1.1, 1.2]), atol=1e-6)


def test_grayscale_is_pillows_luma():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    grey = image_ops.grayscale(image_ops.to_float(tf.constant(pixels))).numpy()
    expected = np.asarray(PIL.Image.fromarray(pixels).convert("L"))[..., None] / 255
    assert grey.shape == pixels.shape
    np.testing.assert_allclose(grey, np.repeat(expected, 3, -1), atol=0.6 / 255)
    np.testing.assert_allclose(image_ops.grayscale(tf.ones((2, 2, 3))), 1.0, atol=1e-6)


def test_grayscale_of_other_channel_counts_is_the_mean():
    image = random_image(channels=4)
    expected = np.repeat(image.mean(-1, keepdims=True), 4, -1)
    np.testing.assert_allclose(image_ops.grayscale(tf.constant(image)), expected, atol=1e-6)


@pytest.mark.parametrize(("kernel_size", "radius"), [(3, 1), (9, 4), (8, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_a_truncated_gaussian_with_zeros_outside(kernel_size, radius, channels):
    image, sigma = random_image(20, 17, channels), 1.3
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = scipy.ndimage.correlate1d(image, kernel, axis=0, mode="constant")
    expected = scipy.ndimage.correlate1d(expected, kernel, axis=1, mode="constant")
    blurred = image_ops.gaussian_blur(tf.constant(image), tf.constant(sigma), kernel_size)
    np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_solarize_is_pillows():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    expected = np.asarray(PIL.ImageOps.solarize(PIL.Image.fromarray(pixels), 128))
    solarized = image_ops.solarize(image_ops.to_float(tf.constant(pixels)), 0.5)
    np.testing.assert_allclose(solarized, expected / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("interpolation", "pillow"),
    [("bicubic", PIL.Image.Resampling.BICUBIC), ("bilinear", PIL.Image.Resampling.BILINEAR)],
)
def test_enlarging_is_pillows(interpolation, pillow):
    image = 0.3 + 0.4 * random_image(7, 9, 1)  # overshoot stays within [0, 1]
    expected = PIL.Image.fromarray(image[..., 0]).resize((24, 20), pillow)
    resized = image_ops.resize(tf.constant(image), (20, 24), interpolation)
    np.testing.assert_allclose(resized[..., 0], np.asarray(expected), atol=2e-3)


def test_resize_takes_uint8_and_cuts_off_overshoot():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    from_bytes = image_ops.resize(tf.constant(pixels), (32, 32)).numpy()
    from_floats = image_ops.resize(tf.constant(pixels / np.float32(255)), (32, 32)).numpy()
    np.testing.assert_allclose(from_bytes, from_floats, atol=1e-6)
    assert from_bytes.min() == 0 and from_bytes.max() == 1
    with pytest.raises(ValueError, match="interpolation"):
        image_ops.resize(tf.constant(pixels), (4, 4), "nearest")


def test_flip():
    image = random_image()
    np.testing.assert_array_equal(image_ops.horizontal_flip(image), image[:, ::-1])


def test_crops_are_uniform_in_area_and_log_ratio_where_all_fit():
    top, left, height, width = over_seeds(
        lambda seed: image_ops.draw_crop(seed, 1000, 1000, (0.1, 0.5), (3 / 4, 4 / 3)), 3000
    )
    area, ratio = height * width / 1e6, np.log(width / height)
    assert scipy.stats.kstest(area, scipy.stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
    spread = scipy.stats.uniform(math.log(3 / 4), 2 * math.log(4 / 3))
    assert scipy.stats.kstest(ratio, spread.cdf).pvalue > 1e-3
    for start, size in ((top, height), (left, width)):
        assert (start >= 0).all() and (start + size <= 1000).all()
        place = (start + 0.5) / (1000 - size + 1)
        assert scipy.stats.kstest(place, scipy.stats.uniform.cdf).pvalue > 1e-3


def test_crops_are_drawn_again_until_they_fit():
    _, _, height, width = over_seeds(
        lambda seed: image_ops.draw_crop(seed, 400, 600, (0.08, 1.0), (3 / 4, 4 / 3)), 3000
    )
    rng, expected = np.random.default_rng(0), []
    while len(expected) < 3000:
        area = rng.uniform(0.08, 1) * 240000
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        if math.sqrt(area * ratio) <= 600 and math.sqrt(area / ratio) <= 400:
            expected.append((area / 240000, ratio))
    shares, ratios = np.array(expected).T
    assert scipy.stats.ks_2samp(height * width / 240000, shares).pvalue > 1e-3
    assert scipy.stats.ks_2samp(width / height, ratios).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
def test_crop_of_a_strip_is_central(height, width):
    boxes = over_seeds(
        lambda seed: image_ops.draw_crop(seed, height, width, (0.9, 1.0), (3 / 4, 4 / 3)), 5
    )
    expected = (0, 494, 10, 13) if width > height else (494, 0, 13, 10)
    for values, wanted in zip(boxes, expected, strict=True):
        assert abs(values - wanted).max() <= 1


def test_jitter_is_its_four_steps_in_one_of_24_orders():
    image = tf.constant(random_image(6, 6))
    strengths = (0.4, 0.3, 0.2, 0.1)
    orders = set()
    for number in range(60):
        seed = seed_of(number)
        jittered = image_ops.random_color_jitter(image, seed, *strengths)
        draws = image_ops.uniforms(seed, 8 + 3).numpy()
        f = [1 - a + 2 * a * u for a, u in zip(strengths[:3], draws, strict=False)]
        turn = 0.1 * (2 * draws[8] - 1)
        steps = (
            lambda x, f=f: image_ops.adjust_brightness(x, f[0]),
            lambda x, f=f: image_ops.adjust_contrast(x, f[1]),
            lambda x, f=f: image_ops.adjust_saturation(x, f[2]),
            lambda x, turn=turn: image_ops.rotate_hue(x, turn),
        )
        errors = {}
        for order in itertools.permutations(range(4)):
            x = image
            for place in order:
                x = steps[place](x)
            errors[order] = float(tf.reduce_max(tf.abs(x - jittered)))
        best = min(errors, key=errors.get)
        assert errors[best] < 1e-5
        orders.add(best)
    assert len(orders) >= 15  # of 24, in 60 draws


def test_strength_above_one_starts_at_zero():
    image = tf.ones((1, 1, 1)) * 0.1
    factors = over_seeds(
        lambda seed: image_ops.random_color_jitter(image, seed, 3.0, 0, 0, 0)[0, 0, 0] / 0.1, 2000
    )
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0, 4).cdf).pvalue > 1e-3


def test_unknown_channels_are_refused():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None))])
    def grey(image):
        return image_ops.grayscale(image)

    with pytest.raises(ValueError, match="known number of channels"):
        grey.get_concrete_function()


def test_split_seeds_differ():
    seeds = [tuple(seed.numpy()) for seed in image_ops.split_seed(seed_of(0), 100)]
    assert len(set(seeds)) == 100
