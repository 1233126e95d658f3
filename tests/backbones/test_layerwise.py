"""Rates by layer and frozen stages."""

import keras
import numpy as np
import pytest
import toys

from keras_ssl import backbones, evaluation


def classifier(backbone):
    images = keras.Input(backbone.image_shape)
    return keras.Model(images, keras.layers.Dense(3)(backbone(images)))


def by_stage(model, factors):
    """Factors by the first word of the variable's path, such as `block1`."""
    found = {}
    for variable, factor in zip(model.trainable_variables, factors, strict=True):
        found.setdefault(variable.path.split("/")[0].split("_")[0], set()).add(round(factor, 6))
    return found


def test_rates_fall_from_the_new_layer_to_the_images():
    backbone = backbones.small_conv((16, 16, 3), widths=(4, 6, 8))
    model = classifier(backbone)
    found = by_stage(model, backbones.rate_factors(model, backbone, 0.5))
    assert [found[f"stage{n}"] for n in (1, 2, 3)] == [{0.125}, {0.25}, {0.5}]
    assert found["dense"] == {1.0}
    assert set(backbones.rate_factors(model, backbone, 1)) == {1.0}


def test_blocks_of_a_transformer_have_rates_of_their_own():
    backbone = backbones.vit(8, 12, 2, (8, 8, 3))  # 24 sums, of which 12 are stages
    model = classifier(backbone)
    found = by_stage(model, backbones.rate_factors(model, backbone, 0.5))
    expected = [{round(0.5 ** (14 - n), 6)} for n in range(1, 13)]
    assert [found[f"block{n}"] for n in range(1, 13)] == expected
    assert (
        found["patches"] == {round(0.5**14, 6)}
        and found["norm"] == {0.5}
        and found["dense"] == {1.0}
    )


@pytest.mark.parametrize("make", ["small_conv", "vit"])
def test_frozen_stages_stay_and_the_rest_learns(make):
    if make == "vit":
        backbone, layer = backbones.vit(8, 3, 2, (8, 8, 3)), "block2_add2"
    else:
        backbone, layer = backbones.small_conv((8, 8, 3), widths=(4, 6, 8)), "stage2_relu"
    before = {v.path: np.array(v) for v in backbone.variables}
    labels = np.arange(24) % 3
    images = toys.images(24)
    result = evaluation.fine_tune(
        backbone, (images, labels), (images, labels), epochs=2, freeze=layer, learning_rate=0.05
    )
    tuned = next(each for each in result.model.layers if isinstance(each, backbones.Backbone))
    moved = {v.path for v in tuned.variables if not np.array_equal(v, before[v.path])}
    still = {v.path for v in backbones.until(tuned, layer).variables}
    assert moved and not moved & still  # moving means of the frozen stages stay as well
    assert all(each.trainable for each in backbone._flatten_layers())  # the encoder is left alone


def test_layer_decay_slows_the_first_stages():
    backbone = backbones.small_conv((8, 8, 3), widths=(4, 6, 8))
    labels, images = np.arange(24) % 3, toys.images(24)
    moves = {}
    for decay in (1.0, 0.1):
        result = evaluation.fine_tune(
            backbone, (images, labels), (images, labels), epochs=1, layer_decay=decay
        )
        pairs = zip(result.model.trainable_variables, backbone.trainable_variables)
        moves[decay] = [float(np.abs(np.array(a) - np.array(b)).mean()) for a, b in pairs]
    assert moves[0.1][0] < 0.01 * moves[1.0][0]


def test_what_does_not_fit_is_refused():
    backbone = backbones.small_conv((8, 8, 3), widths=(4, 6))
    model = classifier(backbone)
    with pytest.raises(ValueError, match=r"`layer_decay` must be in \(0, 1\]. Received: .*1.5"):
        backbones.rate_factors(model, backbone, 1.5)
    with pytest.raises(ValueError, match="`layer` must be a stage of backbone 'small_conv', one"):
        backbones.freeze(backbone, "stage7")
