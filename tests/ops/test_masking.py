"""Orders of patches, what they hide, and the way back."""

import numpy as np

from keras_ssl.ops import masking

rng = np.random.default_rng(0)
NOISE = rng.random((5, 12)).astype("float32")


def test_an_order_is_a_permutation_with_the_least_noise_first():
    order = np.array(masking.random_order(NOISE))
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(12), (5, 1)))
    assert (np.diff(np.take_along_axis(NOISE, order, axis=1), axis=1) >= 0).all()


def test_visible_and_hidden_places_are_all_places_once():
    order = masking.random_order(NOISE)
    hidden = np.array(masking.hidden_places(order, 3))
    assert (hidden.sum(axis=1) == 9).all() and set(np.unique(hidden)) == {0.0, 1.0}
    for row, own in zip(np.array(order), hidden):
        assert not own[row[:3]].any() and own[row[3:]].all()


def test_in_place_undoes_the_order():
    tokens = rng.normal(size=(5, 12, 4)).astype("float32")
    order = masking.random_order(NOISE)
    shuffled = masking.first_places(tokens, order, 12)
    assert not np.array_equal(shuffled, tokens)
    np.testing.assert_array_equal(masking.in_place(shuffled, order), tokens)
    np.testing.assert_array_equal(masking.first_places(tokens, order, 3), np.array(shuffled)[:, :3])


def test_patches_are_squares_row_by_row():
    images = rng.random((2, 8, 12, 3)).astype("float32")
    patches = np.array(masking.patchify(images, 4))
    assert patches.shape == (2, 6, 48)
    np.testing.assert_array_equal(patches[1, 4], images[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(masking.unpatchify(patches, (2, 3), 4), images)
