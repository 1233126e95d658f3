"""Shuffled batches: whose statistics they take, that order comes back, what is refused."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

from keras_ssl.layers.shuffle import allowed_groups, group_count, shuffled
from keras_ssl.ops import draws

BATCH = images(16).astype("float32") / 255


def encoder(backbone):
    return lambda x: backbone(x, training=True)


def test_shuffling_changes_the_statistics_and_nothing_else():
    """Rows come back in their order; without batch normalisation shuffling changes nothing."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, strides=2)(inputs)
    plain = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    for network, equal in ((plain, True), (tiny_backbone(), False)):
        encode = encoder(network)
        found, expected = np.array(shuffled(encode, BATCH, 8, 0)), np.array(encode(BATCH))
        assert np.allclose(found, expected, atol=1e-5) is equal
        np.testing.assert_allclose(shuffled(encode, BATCH, 1, 0), expected, atol=1e-6)


def test_statistics_are_those_of_permuted_groups():
    encode = encoder(tiny_backbone())
    order = np.array(draws.permutation(3, 16))
    found = np.array(shuffled(encode, BATCH, 4, 3))
    expected = np.zeros_like(found)
    for group in np.split(order, 4):
        expected[group] = encode(BATCH[group])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_foreign_batch_normalisation_is_named():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="foreign_bn")(keras.layers.Conv2D(8, 3)(inputs))
    networks = [tiny_backbone(), keras.Model(inputs, x)]
    with pytest.warns(UserWarning, match="foreign_bn.*cannot be shuffled"):
        assert allowed_groups(networks, None) == 1
    with pytest.raises(ValueError, match="`groups` must be 1 here. Received: groups=4"):
        allowed_groups(networks, 4)
    assert allowed_groups(networks, 1) == 1
    assert [allowed_groups(networks[:1], groups) for groups in (None, 4, 1)] == [None, 4, 1]


@pytest.mark.parametrize(
    "batch, groups, expected",
    [
        (256, None, 8),
        (64, None, 8),
        (48, None, 6),
        (24, None, 3),
        (125, None, 5),
        (16, None, 2),
        (8, None, 2),
        (256, 4, 4),
        (16, 8, 8),
        (20, 8, 5),
        (256, 1, 1),
    ],
)
def test_groups_have_eight_images_where_the_batch_allows_it(batch, groups, expected):
    assert group_count(batch, groups) == expected


@pytest.mark.parametrize("batch", [127, 2, 143])
def test_a_batch_that_cannot_be_divided_warns(batch):
    with pytest.warns(UserWarning, match=f"not shuffled.*{batch} images.*multiple of 8"):
        assert group_count(batch, None) == 1
