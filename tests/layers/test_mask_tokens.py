"""Hidden places get the token, visible ones what they had; all get their positions."""

import numpy as np

from keras_ssl.layers.mask_tokens import MaskTokens, QueryTokens
from keras_ssl.ops import masking
from keras_ssl.ops.positions import sincos_positions


def test_tokens_stand_at_their_places():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 6, 8)).astype("float32")
    order = masking.random_order(rng.random((3, 6)))
    layer = MaskTokens((2, 3))
    filled = np.array(layer(masking.first_places(tokens, order, 2), order))
    hidden = np.array(masking.hidden_places(order, 2))[:, :, None]
    expected = hidden * np.array(layer.token) + (1 - hidden) * tokens
    np.testing.assert_allclose(filled, expected + sincos_positions((2, 3), 8), atol=1e-6)
    assert np.array(layer.token).std() > 0
    again = MaskTokens.from_config(layer.get_config())
    assert again.grid == (2, 3) and again.length == 6


def test_queries_stand_at_the_places_that_are_asked_for():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(3, 2, 8)).astype("float32")
    places, asked = rng.integers(0, 6, (3, 2)), rng.integers(0, 6, (3, 4))
    layer = QueryTokens((2, 3))
    made = np.array(layer(known, places, asked))
    waves = sincos_positions((2, 3), 8)
    np.testing.assert_allclose(made[:, :2], known + waves[places], atol=1e-6)
    np.testing.assert_allclose(made[:, 2:], np.array(layer.token) + waves[asked], atol=1e-6)
    assert QueryTokens.from_config(layer.get_config()).grid == (2, 3)
