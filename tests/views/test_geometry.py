"""Central crops, padded crops and right-angle rotations against NumPy and against evaluation."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_ssl import views
from keras_ssl.data import evaluation_images
from keras_ssl.views import geometry


def pixels(height=12, width=10, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def over_seeds(function, count):
    dataset = tf.data.Dataset.range(count).map(
        lambda i: function(tf.stack([tf.cast(i, tf.int32), 3]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


# rotations


def turns(image):
    return [np.asarray(turned) for turned in geometry.right_angles(tf.constant(image))]


def test_rotations_are_numpys_counter_clockwise_ones():
    image = pixels(9, 9)
    for k, turned in enumerate(turns(image)):
        np.testing.assert_array_equal(turned, np.rot90(image, k))
        np.testing.assert_array_equal(turned, tf.image.rot90(image, k))


def test_rotations_are_the_cyclic_group_of_four():
    image = pixels(8, 8)
    once, twice, thrice = turns(image)[1:]
    np.testing.assert_array_equal(turns(once)[3], image)
    np.testing.assert_array_equal(turns(thrice)[1], image)
    np.testing.assert_array_equal(turns(turns(turns(once)[1])[1])[1], image)
    np.testing.assert_array_equal(twice, image[::-1, ::-1])
    for i, j in itertools.product(range(4), repeat=2):
        np.testing.assert_array_equal(turns(turns(image)[i])[j], turns(image)[(i + j) % 4])


def test_rotations_keep_every_pixel():
    image = pixels(7, 7)
    multiset = sorted(map(tuple, image.reshape(-1, 3)))
    for turned in turns(image):
        assert sorted(map(tuple, turned.reshape(-1, 3))) == multiset


def test_mirror_image_of_one_rotation_is_the_opposite_rotation_of_the_mirror_image():
    """Why the flip has to come before the rotations."""
    image = pixels(6, 6)
    np.testing.assert_array_equal(turns(image)[1][:, ::-1], turns(image[:, ::-1])[3])


# pad and crop


def test_padded_crops_are_all_shifts_equally_often():
    image = tf.reshape(tf.range(1, 37, dtype=tf.float32), (6, 6, 1))
    crops = over_seeds(lambda seed: geometry.pad_and_crop(image, seed, (6, 6), 2), 2000)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    expected = {
        padded[top : top + 6, left : left + 6].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    counts = np.zeros((5, 5))
    for crop in crops:
        counts[expected[crop.tobytes()]] += 1
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_padded_crop_may_have_another_size_and_unknown_input():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    def crop(image):
        return views.PadAndCrop((5, 7), padding=1)(image, tf.constant([0, 1]))

    assert crop(pixels(8, 9)).shape == (5, 7, 3)
    assert crop(pixels(3, 5)).shape == (5, 7, 3)  # just fits
    assert views.PadAndCrop(8, padding=0)(tf.constant(pixels(8, 8)), tf.constant([0, 1])).shape == (
        8,
        8,
        3,
    )


def test_padding_zero_leaves_an_image_of_the_size_alone():
    image = pixels(8, 8)
    crop = views.PadAndCrop(8, padding=0)(tf.constant(image), tf.constant([4, 4]))
    np.testing.assert_allclose(crop, image / np.float32(255), atol=1e-7)


def test_too_small_an_image_for_the_padded_crop_is_refused():
    with pytest.raises(ValueError, match=r"`image_size` must fit.*\(16, 16\).*CenterCrop"):
        views.PadAndCrop(16, padding=4)(tf.constant(pixels(7, 16)), tf.constant([0, 0]))
    with pytest.raises(ValueError, match="`padding` must be >= 0"):
        views.PadAndCrop(16, padding=-1)


# central crop


@pytest.mark.parametrize("size", [(12, 10), (8, 8), (20, 10), (12, 8), (5, 30)])
def test_central_crop_is_what_evaluation_sees(size):
    image = pixels().astype(np.float32) / 255
    expected = evaluation_images.resize_and_crop(tf.constant(image), size, "float32")
    np.testing.assert_allclose(geometry.center_crop(tf.constant(image), size), expected, atol=1e-6)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("height", "width"), [(10, 10), (10, 16), (15, 10)])
def test_central_crop_without_a_resize_keeps_8_bit_values(height, width, known):
    image = pixels(height, width)
    shape = image.shape if known else (None, None, 3)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def crop(image):
        return geometry.center_crop(image, (10, 10))

    top, left = (height - 10) // 2, (width - 10) // 2
    result = crop(image).numpy()
    assert crop.get_concrete_function().output_shapes == (10, 10, 3)
    np.testing.assert_array_equal(
        result, image[top : top + 10, left : left + 10] * np.float32(1 / 255)
    )
    np.testing.assert_array_equal(
        np.rint(result * 255).astype(np.uint8), image[top : top + 10, left : left + 10]
    )


def test_central_crop_takes_uint8_and_float_alike():
    image = pixels(40, 30)
    small = geometry.center_crop(tf.constant(image), (9, 7))
    from_floats = geometry.center_crop(tf.constant(image / np.float32(255)), (9, 7))
    np.testing.assert_allclose(small, from_floats, atol=1e-6)
    assert small.dtype == tf.float32 and small.shape == (9, 7, 3)


def test_central_crop_smooths_where_it_shrinks():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (64, 32))[..., None]
    small = geometry.center_crop(tf.constant(stripes), (8, 8))
    np.testing.assert_allclose(small, 0.5, atol=0.05)
