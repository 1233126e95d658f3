"""Each tower sees its own channels of the same pixels, with weights of its own."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

from keras_ssl import backbones
from keras_ssl.backbones import channel_towers
from keras_ssl.backbones.towers import towers_of


def seen(backbone, x):
    """What reaches the network of each tower."""
    parts = []
    for tower in towers_of(backbone):
        operation = next(op for op in tower.operations if type(op).__name__ == "Multiply")
        parts.append(np.array(keras.Model(tower.input, operation.output)(x)))
    return parts


def test_lightness_and_colours_by_default():
    """Grey images differ for the encoder of L alone; the pixels stay where they are."""
    backbone = channel_towers(tiny_backbone())
    shades = np.linspace(0.1, 0.9, 3, dtype="float32")[:, None, None, None]
    grey = np.ones((3, 8, 8, 3), "float32") * shades
    lightness, color = np.split(np.array(backbone(grey)), 2, axis=1)
    assert np.ptp(lightness, axis=0).max() > 1e-2 and np.ptp(color, axis=0).max() < 1e-4
    lab = backbone.preprocessing(images(2).astype("float32") / 255)
    parts = seen(backbone, lab)
    assert not parts[0][..., 1:].any() and not parts[1][..., 0].any()
    np.testing.assert_allclose(parts[0] + parts[1], lab, atol=1e-6)


@pytest.mark.parametrize(
    "space, white",
    [
        ("lab", [(100 - 50) / 50, -6.025 / 92.208, 6.69 / 101.1675]),
        ("ydbdr", [(1 - 0.457) / 0.5, 0.082 / 1.331, 0.052 / 1.333]),
        (None, [1.0, 1.0, 1.0]),
    ],
)
def test_channels_are_normalised(space, white):
    towers = channel_towers(tiny_backbone(), color_space=space)
    x = np.ones((1, 8, 8, 3), "float32")
    found = np.array(towers.preprocessing(x))[0, 0, 0] if towers.preprocessing else x[0, 0, 0]
    expected = white
    if space is None and towers.preprocessing is not None:
        expected = np.array(tiny_backbone().preprocessing(x))[0, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_any_groups_of_any_channels():
    """Colour and depth: four channels, of which one belongs to two towers."""
    towers = channel_towers(tiny_backbone((8, 8, 4)), [(0, 1, 2), (3,), (3, 0)], color_space=None)
    x = np.random.default_rng(0).random((2, 8, 8, 4)).astype("float32")
    for part, group in zip(seen(towers, x), ([0, 1, 2], [3], [0, 3]), strict=True):
        others = np.setdiff1d(range(4), group)
        assert not part[..., others].any()
        np.testing.assert_array_equal(part[..., group], x[..., group])
    assert towers.feature_dim == 24 and towers(x).shape == (2, 24)
    depth = x.copy()
    depth[..., 3] = 0.3
    same = np.isclose(towers(x), towers(depth), atol=1e-7).all(0).reshape(3, 8).all(1)
    assert list(same) == [True, False, False]


def test_towers_have_weights_of_their_own():
    backbone = tiny_backbone()
    made = channel_towers(backbone)
    assert made.feature_dim == 16 and len(made.weights) == 2 * len(backbone.weights)
    first, second = (tower.weights for tower in towers_of(made))
    assert first[0] is backbone.weights[0]
    assert np.abs(first[0].numpy() - second[0].numpy()).max() > 1e-3
    wider = channel_towers([backbone, tiny_backbone(width=12, name="other")])
    assert [tower.output_shape[-1] for tower in towers_of(wider)] == [8, 12]
    assert towers_of(backbone) == []


def test_tokens_are_pooled_as_the_backbone_pools():
    vit = backbones.vit_tiny((16, 16, 3), patch_size=8)
    towers = channel_towers(vit)
    lab = towers.preprocessing(np.random.default_rng(0).random((2, 16, 16, 3)).astype("float32"))
    found = np.array(towers.network(lab))[:, :192]
    lightness = np.array(lab) * np.array([1, 0, 0], "float32")
    np.testing.assert_allclose(found, np.array(vit.network(lightness))[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"groups": [(0, 1, 2)]}, "two or more"),
        ({"groups": [(0,), (3,)]}, r"\[\[0\], \[3\]\] for images of 3 channels"),
        ({"groups": [(0,), ()]}, "none of them empty"),
        ({"color_space": "hsv"}, "color_space='hsv'"),
    ],
)
def test_wrong_groups(arguments, message):
    with pytest.raises(ValueError, match=message):
        channel_towers(tiny_backbone(), **arguments)


def test_wrong_backbones():
    with pytest.raises(ValueError, match=r"`color_space`.*\(8, 8, 1\)"):
        channel_towers(tiny_backbone((8, 8, 1)), [(0,), (0,)])
    with pytest.raises(ValueError, match="3 for .* 2 groups"):
        channel_towers([tiny_backbone(name=f"b{i}") for i in range(3)])
    with pytest.raises(ValueError, match="one shape"):
        channel_towers([tiny_backbone(), tiny_backbone((16, 16, 3), name="other")])
