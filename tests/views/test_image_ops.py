"""Each image operation against NumPy, Pillow, colorsys or SciPy."""

import colorsys
import itertools
import math

import numpy as np
import PIL.Image
import PIL.ImageFilter
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


def photo(size=96):
    """A picture with gradients, an edge, fine stripes and noise, 8 bits."""
    y, x = np.mgrid[:size, :size] / size
    picture = np.stack([x, y, (x + y) / 2], -1) * 180 + 20
    picture[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06] = (220, 60, 40)
    picture[int(0.7 * size) :, 1::3] = 250
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return PIL.Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


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


LUMA = np.array([0.299, 0.587, 0.114])


def grey_of(image):
    """The grey value of each pixel: luma of three channels, else their mean."""
    weights = LUMA if image.shape[-1] == 3 else np.full(image.shape[-1], 1 / image.shape[-1])
    return (image * weights).sum(-1, keepdims=True)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_torchvisions_contrast_blends_with_the_mean_of_the_grey_image(factor, channels):
    image = random_image(channels=channels)
    mean = grey_of(image).mean()
    np.testing.assert_allclose(
        image_ops.blend_contrast(tf.constant(image), factor),
        np.clip(factor * image + (1 - factor) * mean, 0, 1),
        atol=1e-5,
    )


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_torchvisions_saturation_blends_with_the_grey_image(factor, channels):
    image = random_image(channels=channels)
    np.testing.assert_allclose(
        image_ops.blend_saturation(tf.constant(image), factor),
        np.clip(factor * image + (1 - factor) * grey_of(image), 0, 1),
        atol=1e-5,
    )


def test_torchvisions_saturation_leaves_one_channel_alone():
    image = random_image(channels=1)
    np.testing.assert_array_equal(image_ops.blend_saturation(tf.constant(image), 0.3), image)


def test_a_colour_cast_survives_tensorflows_contrast_and_shrinks_in_torchvisions():
    image = 0.4 + 0.2 * random_image(40, 40) + np.array([0.15, 0.0, -0.15], np.float32)
    cast = np.ptp(image.mean((0, 1)))
    for factor in (0.3, 0.6, 1.2):
        ours = [
            np.ptp(np.array(contrast(tf.constant(image), factor)).mean((0, 1)))
            for contrast in (image_ops.adjust_contrast, image_ops.blend_contrast)
        ]
        np.testing.assert_allclose(ours, [cast, factor * cast], rtol=1e-3)


@pytest.mark.parametrize("delta", [-0.4, 0.0, 0.3])
def test_byols_brightness_adds(delta):
    image = random_image()
    np.testing.assert_allclose(
        image_ops.add_brightness(tf.constant(image), delta), np.clip(image + delta, 0, 1), atol=1e-6
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


@pytest.mark.parametrize(("padding", "mode"), [("edge", "nearest"), ("reflect", "mirror")])
@pytest.mark.parametrize("kernel_size", [1, 8, 23])
def test_blur_beyond_the_edge(padding, mode, kernel_size):
    image, sigma, radius = random_image(20, 17), 1.7, kernel_size // 2
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = scipy.ndimage.correlate1d(image, kernel, axis=0, mode=mode)
    expected = scipy.ndimage.correlate1d(expected, kernel, axis=1, mode=mode)
    blurred = image_ops.gaussian_blur(tf.constant(image), tf.constant(sigma), kernel_size, padding)
    np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_mirrored_kernel_is_shortened_to_small_images():
    image = tf.constant(random_image(4, 9))
    blurred = image_ops.gaussian_blur(image, tf.constant(1.0), 23, "reflect")
    shorter = image_ops.gaussian_blur(image, tf.constant(1.0), 7, "reflect")
    np.testing.assert_array_equal(blurred, shorter)
    one = image_ops.gaussian_blur(image[:1], tf.constant(1.0), 23, "reflect")
    np.testing.assert_array_equal(one, image[:1])


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_with_edges_is_pillows(sigma):
    pixels = np.asarray(photo(), np.uint8)
    expected = np.asarray(PIL.Image.fromarray(pixels).filter(PIL.ImageFilter.GaussianBlur(sigma)))
    image = image_ops.to_float(tf.constant(pixels))
    difference = {
        padding: np.abs(image_ops.gaussian_blur(image, sigma, 13, padding) * 255 - expected)
        for padding in image_ops.PADDINGS
    }
    # Pillow blurs by three boxes an axis; each rounds to 8 bits and extends the edge it is given.
    means = {padding: value.mean() for padding, value in difference.items()}
    assert means["edge"] < 0.8 and np.quantile(difference["edge"], 0.99) < 4
    assert means["edge"] < means["reflect"] < means["zeros"]


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


@pytest.mark.parametrize(
    ("interpolation", "pillow"),
    [("bicubic", PIL.Image.Resampling.BICUBIC), ("bilinear", PIL.Image.Resampling.BILINEAR)],
)
@pytest.mark.parametrize("size", [(40, 30), (96, 24), (70, 110)])
def test_antialiased_resize_is_pillows(interpolation, pillow, size):
    picture = photo()
    expected = np.asarray(picture.resize(size[::-1], pillow), np.float32)
    image = tf.constant(np.asarray(picture))
    smooth, sharp = (
        np.array(image_ops.resize(image, size, interpolation, antialias)) * 255
        for antialias in (True, False)
    )
    assert np.abs(smooth - expected).max() < 3  # Pillow rounds and cuts off after each axis
    assert np.abs(smooth - expected).mean() < 0.5
    if min(size) < 48:
        assert np.abs(sharp - expected).max() > 40


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_antialiasing_changes_nothing_where_the_image_grows(interpolation):
    image = tf.constant(random_image(20, 24))
    smooth = image_ops.resize(image, (24, 24), interpolation, antialias=True)
    np.testing.assert_allclose(smooth, image_ops.resize(image, (24, 24), interpolation), atol=2e-3)


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


def clipped(x):
    return np.clip(x, 0, 1)


def hue_turned(image, turn):
    return per_pixel(
        image,
        lambda *rgb: colorsys.hsv_to_rgb(
            (colorsys.rgb_to_hsv(*rgb)[0] + turn) % 1, *colorsys.rgb_to_hsv(*rgb)[1:]
        ),
    )


def hsv_saturation(image, factor):
    def scaled(*rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb(h, min(1.0, factor * s), v)

    return per_pixel(image, scaled)


FORMULAS = {  # brightness, contrast and saturation of (image, factor)
    "tensorflow": (
        lambda x, f: clipped(x * f),
        lambda x, f: clipped(x.mean((0, 1)) + f * (x - x.mean((0, 1)))),
        hsv_saturation,
    ),
    "torchvision": (
        lambda x, f: clipped(x * f),
        lambda x, f: clipped(f * x + (1 - f) * grey_of(x).mean()),
        lambda x, f: clipped(f * x + (1 - f) * grey_of(x)),
    ),
    "byol": (
        lambda x, f: clipped(x + f - 1),  # 1 - a + 2 a u is the summand a (2 u - 1), and one
        lambda x, f: clipped(x.mean((0, 1)) + f * (x - x.mean((0, 1)))),
        hsv_saturation,
    ),
}


@pytest.mark.parametrize("form", FORMULAS)
def test_jitter_is_its_four_steps_in_one_of_24_orders(form):
    assert set(FORMULAS) == set(image_ops.JITTER_FORMS)
    image = tf.constant(random_image(4, 4))
    strengths = (0.4, 0.3, 0.2, 0.1)
    brightness, contrast, saturation = FORMULAS[form]
    orders = set()
    for number in range(30):
        seed = seed_of(number)
        jittered = image_ops.random_color_jitter(image, seed, *strengths, form)
        draws = image_ops.uniforms(seed, 8 + 3).numpy()
        f = [1 - a + 2 * a * u for a, u in zip(strengths[:3], draws, strict=False)]
        turn = 0.1 * (2 * draws[8] - 1)
        steps = (
            lambda x, f=f: brightness(x, f[0]),
            lambda x, f=f: contrast(x, f[1]),
            lambda x, f=f: saturation(x, f[2]),
            lambda x, turn=turn: hue_turned(x, turn),
        )
        errors = {}
        for order in itertools.permutations(range(4)):
            x = image.numpy().astype(np.float64)
            for place in order:
                x = steps[place](x)
            errors[order] = np.abs(x - jittered).max()
        best = min(errors, key=errors.get)
        assert errors[best] < 1e-5
        orders.add(best)
    assert len(orders) >= 10  # of 24, in 30 draws


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
