"""The papers' pipelines: what they consist of, what they make, and that they can be stored."""

import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_ssl import data, views
from keras_ssl.views import image_ops

NOISE = {
    "latent_noise": {"distribution": "normal", "shape": (64,)},
    "mask_noise": {"distribution": "uniform", "shape": (4, 6, 1)},
    "coin": {"distribution": "uniform", "shape": ()},
}


def image_of(size=24, dtype=np.uint8, seed=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return tf.constant(pixels if dtype == np.uint8 else pixels / dtype(255))


def seed_of(number):
    return tf.constant([number, 5])


def many(op, image, count):
    dataset = tf.data.Dataset.range(count).map(
        lambda i: op(image, tf.stack([tf.cast(i, tf.int32), 5]))
    )
    return next(dataset.batch(count).as_numpy_iterator())


def names(pipeline):
    return [type(op).__name__ for op in pipeline.ops]


def part(pipeline, kind):
    return next(op for op in pipeline.ops if isinstance(op, kind))


def same(a, b):
    a, b = keras.tree.flatten(a), keras.tree.flatten(b)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


PIPELINES = {
    "moco1": views.moco(96, version=1),
    "moco2": views.moco(96),
    "moco small": views.moco(32),
    "byol": views.byol(96),
    "byol small": views.byol(32),
    "byol in torchvision's form": views.byol(96, form="torchvision"),
    "swav": views.swav(98),
    "swav small": views.swav(32, crops=(2, 2)),
    "lejepa": views.lejepa(96),
    "lejepa small": views.lejepa(32, crops=(2, 2)),
    "bow_net": views.bow_net(96),
    "bow_net small": views.bow_net(32),
    "obow": views.obow(98),
    "obow small": views.obow(32, crops=(1, 2)),
    "rotnet": views.rotnet(80),
    "rotnet small": views.rotnet(32),
    "instdisc": views.instdisc(96),
    "instdisc small": views.instdisc(32),
    "cmc": views.cmc(32),
    "supcon": views.supcon(32),
    "wmse": views.wmse(32),
    "pirl": views.pirl(96),
    "pirl small": views.pirl(32),
    "pirl rotation": views.pirl(32, "rotation"),
    "infomin": views.infomin(96),
    "infomin small": views.infomin(32),
    "infomin without patches": views.infomin(32, grid=0),
    "plain": views.plain(32),
    "supervised": views.supervised(96),
    "supervised small": views.supervised(32),
    "one more view": views.WithView(views.byol(32), views.supervised(32).view),
    "center": views.CenterCrop(20),
    "pad": views.PadAndCrop((12, 16), padding=1),
    "noise": views.WithNoise(views.plain(32), NOISE),
    "noise twice": views.WithNoise(
        views.WithNoise(views.byol(32), {"a": NOISE["coin"]}), {"b": NOISE["coin"]}
    ),
}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_config_round_trip(pipeline):
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(pipeline)))
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is type(pipeline) and repr(again) == repr(pipeline)
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == stored
    assert again.image_size == pipeline.image_size
    image = image_of(100)
    assert same(pipeline(image, seed_of(4)), again(image, seed_of(4)))
    assert not same(pipeline(image, seed_of(4)), again(image, seed_of(5))) or (
        isinstance(pipeline, views.CenterCrop)
    )


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_images_are_float32_in_the_unit_range(pipeline):
    made = many(pipeline, image_of(100), 8)
    for view in made["views"] if isinstance(made, dict) else [made]:
        assert view.dtype == np.float32 and view.min() >= 0 and view.max() <= 1
        assert view.std((1, 2, 3)).min() > 0
    if isinstance(made, dict):
        assert isinstance(pipeline(image_of(100), seed_of(0))["views"], tuple)


def test_moco_follows_the_version_and_the_size():
    first, second, small = (views.moco(*a).first for a in [(224, 1), (224, 2), (32, 2)])
    assert names(first) == ["RandomResizedCrop", "Grayscale", "ColorJitter", "HorizontalFlip"]
    jitter = part(first, views.ColorJitter)
    assert (jitter.hue, jitter.p) == (0.4, 1.0)
    assert names(second) == [
        "RandomResizedCrop",
        "ColorJitter",
        "Grayscale",
        "GaussianBlur",
        "HorizontalFlip",
    ]
    jitter = part(second, views.ColorJitter)
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.4, 0.4, 0.4)
    assert (jitter.hue, jitter.p) == (0.1, 0.8)
    for pipeline in (first, second):
        assert part(pipeline, views.RandomResizedCrop).scale == (0.2, 1.0)
    assert part(second, views.GaussianBlur).p == 0.5
    assert names(small) == ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale"]
    assert part(small, views.RandomResizedCrop).scale == (0.08, 1.0)
    assert repr(views.moco(32, 1)) == repr(views.moco(32, 2))
    chosen = views.moco(32, min_scale=0.3).first
    assert part(chosen, views.RandomResizedCrop).scale == (0.3, 1.0)


def parts(pipeline, kind):
    """All operations of a kind in a pipeline of any form."""
    if isinstance(pipeline, kind):
        return [pipeline]
    inner = [
        getattr(pipeline, name, None) for name in ("first", "second", "view", "whole", "patch")
    ]
    inner += [*getattr(pipeline, "ops", ()), *getattr(pipeline, "pipelines", ())]
    return [op for own in inner if own is not None for op in parts(own, kind)]


PYTORCH = {
    "moco1": lambda size: views.moco(size, version=1),
    "moco2": views.moco,
    "instdisc": views.instdisc,
    "supcon": views.supcon,
    "cmc": views.cmc,
    "byol in torchvision's form": lambda size: views.byol(size, form="torchvision"),
    "swav": views.swav,
    "lejepa": views.lejepa,
    "bow_net": views.bow_net,
    "obow": views.obow,
    "rotnet": views.rotnet,
    "wmse": views.wmse,
    "pirl": views.pirl,
    "pirl rotation": lambda size: views.pirl(size, "rotation"),
    "infomin": views.infomin,
}


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("make", [*PYTORCH.values()], ids=PYTORCH)
def test_pytorch_authors_have_torchvisions_operations(make, size):
    pipeline = make(size)
    crops, jitters, blurs = (
        parts(pipeline, kind)
        for kind in (views.RandomResizedCrop, views.ColorJitter, views.GaussianBlur)
    )
    assert crops or size == 32
    assert all(crop.antialias == (size > 64) for crop in crops)
    assert all(jitter.form == "torchvision" for jitter in jitters)
    assert all(blur.padding != "zeros" for blur in blurs)


@pytest.mark.parametrize(("make", "form"), [(views.simclr, "tensorflow"), (views.byol, "byol")])
def test_tensorflow_authors_have_tensorflows_operations(make, form):
    pipeline = make(224)
    assert {op.form for op in parts(pipeline, views.ColorJitter)} == {form}
    assert not any(op.antialias for op in parts(pipeline, views.RandomResizedCrop))
    blurs = parts(pipeline, views.GaussianBlur)
    assert {(op.padding, op.kernel_size) for op in blurs} == {("zeros", None)}


def test_blurs_are_the_authors():
    def blurs(pipeline):
        return {(op.padding, op.kernel_size) for op in parts(pipeline, views.GaussianBlur)}

    assert blurs(views.moco(96)) == blurs(views.byol(96, form="torchvision")) == {("edge", 13)}
    assert blurs(views.swav(224)) == {("reflect", 23)}
    assert blurs(views.lejepa(224)) == {("reflect", 9)}
    assert blurs(views.infomin(224)) == {("reflect", None)}


def test_byol_views_differ_in_blur_and_solarisation():
    large, small = views.byol(224), views.byol((64, 48))
    common = ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale"]
    assert names(large.first) == [*common, "GaussianBlur"]
    assert names(large.second) == [*common, "GaussianBlur", "Solarize"]
    assert part(large.first, views.GaussianBlur).p == 1.0
    assert part(large.second, views.GaussianBlur).p == 0.1
    assert part(large.second, views.Solarize).p == 0.2
    assert part(large.first, views.ColorJitter).saturation == 0.2
    assert names(small.first) == common and names(small.second) == [*common, "Solarize"]
    assert small.image_size == (64, 48)
    chosen = views.byol(224, min_scale=0.2, interpolation="bilinear")
    for made, scale, kind in ((large, 0.08, "bicubic"), (chosen, 0.2, "bilinear")):
        for pipeline in (made.first, made.second):
            crop = part(pipeline, views.RandomResizedCrop)
            assert crop.scale == (scale, 1.0) and crop.interpolation == kind


# multi-crop


def test_swav_makes_two_large_and_six_small_views():
    made = many(views.swav(112), image_of(130), 6)["views"]
    assert [view.shape[1:] for view in made] == [(112, 112, 3)] * 2 + [(48, 48, 3)] * 6
    assert len({view.tobytes() for batch in made for view in batch}) == 6 * 8
    assert views.swav(224).pipelines[1].image_size == (96, 96)  # the paper's pair
    assert views.swav(224).image_size == (224, 224)


def test_swav_defaults_follow_the_size():
    large, small = views.swav(224), views.swav(32, crops=(2, 6))
    assert large.counts == (2, 6) and views.swav(32).counts == (2,)
    scales = [[part(p, views.RandomResizedCrop).scale for p in v.pipelines] for v in (large, small)]
    assert scales[0] == [(0.14, 1.0), (0.05, 0.14)]
    assert scales[1][0] == (0.14, 1.0) and small.pipelines[1].image_size == (16, 16)
    assert names(large.pipelines[1])[-1] == "GaussianBlur"
    assert "GaussianBlur" not in names(small.pipelines[0])
    jitters = [part(v.pipelines[0], views.ColorJitter) for v in (large, small)]
    assert [j.brightness for j in jitters] == pytest.approx([0.8, 0.4])
    assert [j.hue for j in jitters] == pytest.approx([0.2, 0.1])
    chosen = views.swav(32, crops=(3, 1), small_size=(20, 12), strength=1.0, blur=0.2)
    assert chosen.counts == (3, 1) and chosen.pipelines[1].image_size == (20, 12)
    assert part(chosen.pipelines[1], views.GaussianBlur).p == 0.2
    two = views.swav(32, crops=(2, 0))
    assert len(two(image_of(32), seed_of(0))["views"]) == 2


def test_lejepa_follows_the_size():
    large, small = views.lejepa(224), views.lejepa(32, crops=(4, 2))
    assert large.counts == (2, 6) and large.pipelines[1].image_size == (96, 96)
    assert views.lejepa(32).counts == (2,) and small.counts == (4, 2)
    scales = [[part(p, views.RandomResizedCrop).scale for p in v.pipelines] for v in (large, small)]
    assert scales == [[(0.3, 1.0), (0.05, 0.3)], [(0.2, 1.0), (0.05, 0.3)]]
    common = ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale"]
    for pipeline in large.pipelines:
        assert names(pipeline) == [*common, "GaussianBlur", "Solarize"]
        jitter = part(pipeline, views.ColorJitter)
        strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        assert strengths == pytest.approx((0.4, 0.4, 0.2, 0.1))
    assert names(small.pipelines[0]) == [*common, "Solarize"]
    solarized = [part(v.pipelines[0], views.Solarize).p for v in (large, small)]
    assert solarized == [0.2, 0.1]
    chosen = views.lejepa(32, (1, 1), (20, 12), strength=1.0, solarize=0.5)
    assert chosen.counts == (1, 1) and chosen.pipelines[1].image_size == (20, 12)
    assert part(chosen.pipelines[1], views.Solarize).p == 0.5
    assert part(chosen.pipelines[0], views.ColorJitter).brightness == pytest.approx(0.8)


def test_multi_crop_gives_each_view_its_own_seed_and_keeps_the_order():
    seen = []

    def spy(name):
        return lambda image, seed: seen.append((name, tuple(seed.numpy()))) or image

    views.MultiCrop([spy("a"), spy("b"), spy("c")], (1, 2, 1))(image_of(), seed_of(1))
    assert [name for name, _ in seen] == ["a", "b", "b", "c"]
    assert len({seed for _, seed in seen}) == 4


# rotations


def test_rotnet_crops_and_flips_before_it_turns():
    """All four are exact rotations of one image, which itself varies with the seed."""
    for size in (32, 80):
        made = many(views.rotnet(size), image_of(96), 12)
        for k, turned in enumerate(made["views"]):
            np.testing.assert_array_equal(turned, np.rot90(made["views"][0], k, axes=(1, 2)))
        assert len({view.tobytes() for view in made["views"][0]}) >= 9  # of 162 for 32 px
        np.testing.assert_array_equal(made["rotations"], np.tile(np.arange(4), (12, 1)))
        assert made["rotations"].dtype == np.int32


def test_rotnet_of_small_images_moves_them_by_at_most_four_pixels():
    image = tf.ones((32, 32, 3))
    upright = many(views.rotnet(32), image, 300)["views"][0]
    rows, columns = upright[..., 0].max(2), upright[..., 0].max(1)
    assert set(rows.sum(1)) == set(columns.sum(1)) == {28, 29, 30, 31, 32}
    top, bottom = (rows[:, 0] == 0).mean(), (rows[:, -1] == 0).mean()
    assert abs(top - 4 / 9) < 0.1 and abs(bottom - 4 / 9) < 0.1  # no side is favoured


def test_rotations_must_be_square():
    with pytest.raises(ValueError, match=r"square.*\(32, 48\)"):
        views.rotnet((32, 48))
    whole = views.Rotations(views.HorizontalFlip())
    assert whole(image_of(20), seed_of(0))["views"][1].shape == (20, 20, 3)
    with pytest.raises(ValueError, match=r"square.*\(20, 24\).*CenterCrop"):
        whole(tf.zeros((20, 24, 3)), seed_of(0))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3))])
    def turn(image):
        return whole(image, seed_of(0))

    with pytest.raises(ValueError, match=r"square.*\(None, None\)"):
        turn.get_concrete_function()


# plain


def test_plain_view_is_the_image_or_its_mirror_image():
    image = image_of(16)
    upright = image.numpy() * np.float32(1 / 255)
    made = many(views.plain(16), image, 200)["views"]
    assert len(made) == 1
    flipped = [np.array_equal(view, upright[:, ::-1]) for view in made[0]]
    assert all(
        flip or np.array_equal(view, upright) for flip, view in zip(flipped, made[0], strict=True)
    )
    assert 70 <= sum(flipped) <= 130
    fixed = many(views.plain(16, flip=False), image, 5)["views"][0]
    np.testing.assert_array_equal(fixed, np.tile(upright, (5, 1, 1, 1)))
    assert views.plain((12, 10))(image, seed_of(0))["views"][0].shape == (12, 10, 3)


# noise


def test_noise_has_the_moments_of_its_distribution():
    made = many(views.WithNoise(views.plain(24), NOISE), image_of(), 500)
    assert set(made) == {"views", *NOISE}
    assert made["latent_noise"].shape == (500, 64)
    assert made["mask_noise"].shape == (500, 4, 6, 1) and made["coin"].shape == (500,)
    assert all(made[name].dtype == np.float32 for name in NOISE)
    uniform = scipy.stats.uniform.cdf
    assert scipy.stats.kstest(made["latent_noise"].ravel(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(made["mask_noise"].ravel(), uniform).pvalue > 1e-3
    assert scipy.stats.kstest(made["coin"], uniform).pvalue > 1e-3
    assert made["mask_noise"].min() >= 0 and made["mask_noise"].max() < 1
    between = np.corrcoef(made["latent_noise"][:, 0], made["coin"])[0, 1]
    assert abs(between) < 0.2  # the keys draw separately


def test_noise_is_a_function_of_the_seed():
    noisy = views.WithNoise(views.swav(16, crops=(2, 1)), NOISE)
    first, again, other = (noisy(image_of(), seed_of(n)) for n in (3, 3, 4))
    assert same(first, again)
    for name in NOISE:
        assert not np.array_equal(first[name], other[name])
    turned = dict(reversed(NOISE.items()))
    assert same(first, views.WithNoise(noisy.views, turned)(image_of(), seed_of(3)))


def test_noise_in_a_stream_differs_by_image_and_epoch_and_is_repeatable():
    images = np.stack([image_of(seed=s).numpy() for s in range(8)])
    noisy = views.WithNoise(views.plain(24), {"latent_noise": NOISE["latent_noise"]})

    def epochs(global_seed):
        tf.random.set_seed(global_seed)
        stream = data.stream(data.load(images), noisy, 8, seed=0)
        return list(stream.take(2).as_numpy_iterator())

    first, second = epochs(1)
    drawn = np.concatenate([first["latent_noise"], second["latent_noise"]])
    assert len({row.tobytes() for row in drawn}) == 16
    assert same([first, second], epochs(2))


# errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: views.moco(32, version=3), "`version` must be 1 or 2"),
        (lambda: views.byol(0), "image_size"),
        (lambda: views.byol(32, min_scale=1.5), "`scale`"),
        (lambda: views.byol(32, form="tensorflow"), "`form`.*byol.*torchvision.*'tensorflow'"),
        (lambda: views.moco(32, min_scale=0.0), "`scale`"),
        (lambda: views.swav(32, crops=(1, 6)), "`crops`.*2, 6"),
        (lambda: views.swav(32, crops=(2, -1)), "`crops`"),
        (lambda: views.swav(32, small_size=0), "small_size"),
        (lambda: views.lejepa(32, crops=(1, 0)), "`crops`.*two views.*2, 6"),
        (lambda: views.lejepa(32, crops=(0, 6)), "`crops`"),
        (lambda: views.lejepa(32, solarize=2.0), "`p`"),
        (lambda: views.MultiCrop([views.HorizontalFlip()], (1, 2)), "`counts`"),
        (lambda: views.MultiCrop([views.HorizontalFlip()], (0,)), "`counts`"),
        (lambda: views.MultiCrop([], ()), "`counts`"),
        (lambda: views.WithNoise(views.plain(8), {}), "`noise` must hold"),
        (
            lambda: views.WithNoise(
                views.plain(8), {"e": {"distribution": "laplace", "shape": (1,)}}
            ),
            r"`noise\['e'\]`.*normal.*laplace",
        ),
        (
            lambda: views.WithNoise(
                views.plain(8), {"e": {"distribution": "normal", "shape": (0,)}}
            ),
            "shape",
        ),
        (lambda: views.WithNoise(views.plain(8), {"e": {"shape": (1,)}}), "distribution"),
        (
            lambda: views.WithNoise(views.plain(8), {"views": NOISE["coin"]})(
                image_of(), seed_of(0)
            ),
            "must not use a key of the views",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_new_class_takes_floats_too():
    image = image_of(40)
    floats = image_ops.to_float(image)
    for pipeline in (views.rotnet(32), views.plain(32), views.swav(32, crops=(2, 1))):
        for a, b in zip(
            pipeline(image, seed_of(2))["views"], pipeline(floats, seed_of(2))["views"]
        ):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_one_more_view_leaves_the_others_as_they_are():
    """It is the same one beside any views, and shares no draw with theirs."""
    image, crop = image_of(64), views.RandomResizedCrop(32, (0.1, 1.0))
    two = views.TwoViews(crop)
    beside = [views.WithView(own, crop) for own in (two, views.rotnet(32), views.plain(32))]
    made = [many(own, image, 20) for own in beside]
    assert same(made[0]["views"], many(two, image, 20)["views"])
    assert same(made[1]["views"], many(views.rotnet(32), image, 20)["views"])
    assert same(made[0]["supervised"], made[1]["supervised"])
    assert same(made[0]["supervised"], made[2]["supervised"])
    every = [*made[0]["views"][0], *made[0]["views"][1], *made[0]["supervised"]]
    assert len({view.tobytes() for view in every}) == 60
    assert (
        len({view.tobytes() for view in many(crop, image, 20)} & {v.tobytes() for v in every}) == 0
    )
    with pytest.raises(ValueError, match="Received: 'views'"):
        views.WithView(two, crop, "views")(image, seed_of(1))
