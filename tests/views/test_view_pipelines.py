"""Operation objects, their composition and the paper's presets: seeded, live, serialisable."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import views
from keras_ssl.views import image_ops

OPS = [
    views.RandomResizedCrop((16, 12)),
    views.HorizontalFlip(),
    views.ColorJitter(0.4, 0.4, 0.4, 0.1),
    views.ColorJitter(0.4, 0.4, 0.4, 0.1, form="torchvision"),
    views.ColorJitter(0.4, 0.4, 0.2, 0.1, form="byol"),
    views.RandomResizedCrop(10, antialias=True),
    views.Grayscale(),
    views.GaussianBlur(kernel_size=3),
    views.GaussianBlur(kernel_size=5, padding="edge"),
    views.GaussianBlur(kernel_size=5, padding="reflect"),
    views.Photometric(),
    views.Solarize(),
    views.QuarterTurns(),
    views.Cutout(),
    views.GaussianNoise(),
    views.Sobel(0.5),
]


def image_of(channels=3, dtype=np.uint8, size=24):
    pixels = np.random.default_rng(1).integers(0, 256, (size, size, channels), np.uint8)
    return tf.constant(pixels if dtype == np.uint8 else pixels / dtype(255))


def many(op, image, count=400):
    """Results under `count` seeds."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: op(image, tf.stack([tf.cast(i, tf.int32), 5]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


def same(a, b):
    for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_every_op_keeps_range_channels_and_seed(op, channels):
    image = image_of(channels)
    results = many(op, image, 40)
    assert results.dtype == np.float32 and results.shape[-1] == channels
    assert results.min() >= 0 and results.max() <= 1
    seed = tf.constant([3, 5])
    np.testing.assert_array_equal(op(image, seed), op(image, seed))
    from_floats = op(tf.cast(image, tf.float32) / 255, seed)
    np.testing.assert_allclose(op(image, seed), from_floats, atol=2e-5)
    if channels > 1 or not isinstance(op, views.Grayscale):
        assert len({result.tobytes() for result in results}) >= 2  # something happens


@pytest.mark.parametrize(
    ("op", "changed"),
    [
        (views.HorizontalFlip(0.3), 0.3),
        (views.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), 0.8),
        (views.Grayscale(0.2), 0.2),
        (views.GaussianBlur(0.6, sigma=(1, 2), kernel_size=5), 0.6),
        (views.Solarize(0.1), 0.1),
        (views.Solarize(0.0), 0.0),
        (views.HorizontalFlip(1.0), 1.0),
    ],
    ids=lambda value: repr(value),
)
def test_ops_act_as_often_as_they_say(op, changed):
    image = image_ops.to_float(image_of(size=8))
    results = many(op, image, 1000)
    share = np.mean([np.abs(result - image).max() > 1e-6 for result in results])
    assert abs(share - changed) <= 4 * np.sqrt(changed * (1 - changed) / 1000)


@pytest.mark.parametrize("form", image_ops.JITTER_FORMS)
def test_jitter_keeps_meaning_for_grey_and_many_channels(form):
    jitter = views.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0, form=form)
    grey = many(jitter, image_of(1), 100)
    assert grey.mean((1, 2, 3)).std() > 0.02 and grey.std((1, 2, 3)).std() > 0.01
    balance = many(jitter, image_of(5), 100).mean((1, 2))
    assert (balance / balance.mean(1, keepdims=True)).std(0).min() > 0.02


def test_blur_width_varies_and_default_kernel_is_a_tenth():
    image = image_ops.to_float(image_of(size=40))
    blur = views.GaussianBlur(1.0)
    wider = views.GaussianBlur(1.0, kernel_size=5)
    seed = tf.constant([1, 1])
    np.testing.assert_array_equal(blur(image, seed), wider(image, seed))  # 4 counts as 5
    assert many(blur, image, 50).std((1, 2, 3)).std() > 0.01


def test_views_of_one_image_differ_and_vary():
    two = views.simclr(16)
    image = image_of()
    results = many(lambda x, seed: two(x, seed)["views"], image, 60)
    assert results[0].shape == results[1].shape == (60, 16, 16, 3)
    assert len({view.tobytes() for half in results for view in half}) == 120


def test_second_pipeline_makes_the_second_view():
    flip, dark = views.HorizontalFlip(1.0), views.Compose([views.Solarize(1.0, threshold=0.0)])
    image = image_ops.to_float(image_of())
    first, second = views.TwoViews(flip, dark)(image, tf.constant([0, 0]))["views"]
    np.testing.assert_array_equal(first, image[:, ::-1])
    np.testing.assert_allclose(second, 1 - image, atol=1e-6)


def test_compose_gives_each_op_its_own_seed():
    seen = []

    def spy(image, seed):
        seen.append(tuple(seed.numpy()))
        return image

    views.Compose([spy] * 5)(image_of(), tf.constant([1, 2]))
    assert len(set(seen)) == 5


@pytest.mark.parametrize(
    "pipeline", [*OPS, views.simclr(16), views.simclr(96), views.TwoViews(OPS[0], OPS[2])]
)
def test_config_round_trip(pipeline):
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(pipeline)))
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is type(pipeline) and repr(again) == repr(pipeline)
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == stored
    image, seed = image_of(size=100), tf.constant([4, 2])
    same(pipeline(image, seed), again(image, seed))


def test_simclr_defaults_follow_the_size():
    def parts(two):
        assert two.second is None
        return {type(op).__name__: op for op in two.first.ops}

    small, large = parts(views.simclr(32)), parts(views.simclr((96, 80)))
    assert list(small) == ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale"]
    assert list(large) == [*small, "GaussianBlur"]
    assert small["ColorJitter"].brightness == pytest.approx(0.4)
    assert small["ColorJitter"].hue == pytest.approx(0.1)
    assert large["ColorJitter"].saturation == pytest.approx(0.8)
    assert large["ColorJitter"].p == 0.8 and large["GaussianBlur"].p == 0.5
    assert views.simclr((96, 80)).image_size == (96, 80)
    chosen = parts(views.simclr(32, strength=1.0, blur=0.3))
    assert chosen["ColorJitter"].contrast == 0.8 and chosen["GaussianBlur"].p == 0.3
    cropped = views.simclr(32, min_scale=0.3)
    assert parts(cropped)["RandomResizedCrop"].scale == (0.3, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: views.RandomResizedCrop(0), "image_size"),
        (lambda: views.RandomResizedCrop(8, scale=(0.5, 0.1)), "scale"),
        (lambda: views.RandomResizedCrop(8, scale=(0.5, 1.5)), "scale"),
        (lambda: views.RandomResizedCrop(8, ratio=(0, 1)), "ratio"),
        (lambda: views.RandomResizedCrop(8, interpolation="lanczos"), "interpolation"),
        (lambda: views.HorizontalFlip(1.2), "`p`"),
        (lambda: views.ColorJitter(-1, 0, 0, 0), "Strengths"),
        (lambda: views.ColorJitter(0, 0, 0, 0.6), "hue"),
        (lambda: views.GaussianBlur(sigma=(0, 1)), "sigma"),
        (lambda: views.ColorJitter(0, 0, 0, 0, form="jax"), "`form`.*tensorflow.*'jax'"),
        (lambda: views.GaussianBlur(kernel_size=0), "kernel_size"),
        (lambda: views.GaussianBlur(padding="wrap"), "`padding`.*edge.*'wrap'"),
        (lambda: views.Photometric(1.5), "`p`"),
        (lambda: views.Compose([]), "ops"),
        (lambda: views.simclr(32, blur=2), "`p`"),
        (lambda: views.simclr(32, min_scale=0.0), "`scale`"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
