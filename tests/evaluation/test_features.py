import keras
import numpy as np
import pytest

from keras_ssl import evaluation


class Encode:
    """Flattens, and remembers the shapes that it was called with."""

    def __init__(self):
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(tuple(images.shape))
        return keras.ops.reshape(keras.ops.cast(images, "float32"), (images.shape[0], -1))


IMAGES = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 3)).astype(np.uint8)
EXPECTED = IMAGES.reshape(23, -1).astype(np.float32)


class FakeSource:
    image_shape = (4, 4, 3)

    def arrays(self, image_size, limit=None):
        assert image_size == (4, 4)
        return IMAGES, np.arange(23) % 3

    def batches(self, image_size, batch_size):
        assert image_size == (4, 4)
        for start in range(0, 23, batch_size):
            yield IMAGES[start : start + batch_size], np.arange(start, min(start + batch_size, 23))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        keras.ops.convert_to_tensor(IMAGES),
        FakeSource(),
        [IMAGES[:9], IMAGES[9:18], IMAGES[18:]],
        [(IMAGES[:9], 0), (IMAGES[9:], 1)],
        [{"image": IMAGES[:9]}, {"image": IMAGES[9:]}],
    ],
    ids=["array", "tensor", "source", "batches", "tuples", "dicts"],
)
def test_order_is_kept_and_every_call_has_one_shape(images):
    encode = Encode()
    features = evaluation.extract(encode, images, batch_size=8)
    np.testing.assert_array_equal(features, EXPECTED)
    assert features.dtype == np.float32
    assert set(encode.shapes) == {(8, 4, 4, 3)}


def test_small_set_is_one_call():
    encode = Encode()
    np.testing.assert_array_equal(evaluation.extract(encode, IMAGES[:3]), EXPECTED[:3])
    assert encode.shapes == [(3, 4, 4, 3)]


def test_half_precision_becomes_float32():
    features = evaluation.extract(lambda x: keras.ops.cast(Encode()(x), "bfloat16"), IMAGES)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, EXPECTED, rtol=1e-2)


def test_extraction_leaves_batch_statistics_alone():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.BatchNormalization()(inputs)))
    before = [np.copy(w) for w in model.get_weights()]
    images = IMAGES.astype(np.float32) / 255
    once = evaluation.extract(lambda x: model(x, training=False), images, batch_size=8)
    np.testing.assert_allclose(once, model(images, training=False), atol=1e-5)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`encode` must return features of shape"):
        evaluation.extract(lambda x: x, IMAGES)
    with pytest.raises(ValueError, match="`images` must hold at least one image"):
        evaluation.extract(Encode(), IMAGES[:0])
    with pytest.raises(ValueError, match="`batch_size` must be >= 1"):
        evaluation.extract(Encode(), IMAGES, batch_size=0)
    source = FakeSource()
    source.image_shape = (None, None, 3)
    with pytest.raises(ValueError, match="`image_size` must be given"):
        evaluation.extract(Encode(), source)


def test_labelled_takes_pairs_and_sources():
    images, labels = evaluation.labelled(FakeSource())
    assert images is IMAGES and labels.dtype == np.int64
    _, labels = evaluation.labelled((IMAGES, np.zeros((23, 1), np.int32)))
    assert labels.shape == (23,)
    with pytest.raises(ValueError, match="`test` must be a pair"):
        evaluation.labelled((IMAGES, None), name="test")
    with pytest.raises(ValueError, match="one integer label for each image"):
        evaluation.labelled((IMAGES, np.zeros(22)))
