"""Stages of a network: cuts between blocks, the same numbers as inside the whole."""

import keras
import numpy as np
import pytest
import toys

from keras_ssl import backbones
from keras_ssl.backbones import Backbone, last_maps, stages, until

IMAGES = toys.images(3, (16, 16, 3))


def test_a_resnet_is_cut_after_its_stages():
    backbone = backbones.resnet18((16, 16, 3))
    found = stages(backbone)
    assert list(found) == [f"stage{n}_block2_out" for n in (1, 2, 3, 4)]
    assert found["stage4_block2_out"] is backbone
    assert [stage.feature_dim for stage in found.values()] == [64, 128, 256, 512]


def test_a_transformer_is_cut_after_its_blocks_with_its_class_token():
    found = stages(backbones.vit(8, 14, 2, (16, 16, 3)))
    sums = [name for name in found if "add" in name]
    assert sums[-1] == "block14_add2" and len(sums) == 12
    assert list(found)[-1] == "norm" and found["norm"].num_prefix_tokens == 1
    assert found["block14_add2"].num_prefix_tokens == 1


@pytest.mark.parametrize("flat", [False, True], ids=["backbone", "keras file"])
def test_a_stage_computes_what_the_whole_does_on_the_way(flat):
    backbone = backbones.small_conv((16, 16, 3), widths=(4, 6, 8))
    network = backbones.adopt(backbone.to_functional()) if flat else backbone
    cut = until(network, "stage2_relu")
    inner = backbone.network
    tensor = inner.get_layer("stage2_relu").output
    prepared = IMAGES.astype("float32") / 255
    if backbone.preprocessing is not None:
        prepared = backbone.preprocessing(prepared)
    expected = np.mean(keras.Model(inner.input, tensor)(prepared), axis=(1, 2))
    np.testing.assert_allclose(cut(IMAGES), expected, atol=1e-6)
    assert "stage3_relu" not in [layer.name for layer in cut._flatten_layers()]


def test_weights_are_shared():
    backbone = backbones.small_conv((16, 16, 3), widths=(4, 6, 8))
    first = next(iter(stages(backbone).values()))
    ours = {id(variable) for variable in backbone.variables}
    assert first.variables and all(id(variable) in ours for variable in first.variables)


def test_no_cut_goes_through_a_residual_block():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="before")(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", name="inside")(x)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.Conv2D(4, 3, strides=2, name="after")(x)
    assert list(stages(Backbone(keras.Model(inputs, x)))) == ["sum", "after"]


class Halves(keras.layers.Layer):
    """The two halves of the channels."""

    def call(self, x):
        return keras.ops.split(x, 2, axis=-1)


def test_of_a_layer_with_two_outputs_one_may_carry_all():
    images = keras.Input((8, 8, 3))
    _, second = Halves(name="halves")(keras.layers.Conv2D(4, 1, name="first")(images))
    features = keras.layers.Conv2D(5, 2, strides=2, name="last")(second)
    found = stages(Backbone(keras.Model(images, features), name="two"))
    assert list(found) == ["halves", "last"] and found["halves"].feature_dim == 2
    x = toys.images(2, (8, 8, 3))
    first = keras.Model(images, second)(x / np.float32(255))
    np.testing.assert_allclose(found["halves"](x), np.mean(first, axis=(1, 2)), atol=1e-6)


def test_names_that_are_no_stages_and_networks_of_one_piece_are_refused():
    with pytest.raises(ValueError, match="`layer` must be a stage .* Received: layer='nowhere'"):
        until(toys.tiny_backbone(), "nowhere")
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))
    with pytest.raises(ValueError, match="one of a single piece"):
        stages(Backbone(network))


def small(nested=False):
    backbone = backbones.small_conv((16, 16, 3), widths=(4, 6, 8), mean=0.5, std=0.2)
    if not nested:
        return backbone
    return backbones.adopt(backbone.network, backbone.preprocessing, image_shape=(16, 16, 3))


@pytest.mark.parametrize("nested", [False, True], ids=["own", "adopted"])
def test_last_maps_are_those_of_the_stages(nested):
    backbone = small(nested)
    maps, widths = last_maps(backbone, 2)
    found = maps(IMAGES, False)
    assert widths == [6, 8]
    for stage, x in zip(list(stages(backbone).values())[-2:], found):
        np.testing.assert_allclose(stage.feature_map(IMAGES), x, atol=1e-5)
    one, width = last_maps(backbone, 1)
    np.testing.assert_allclose(one(IMAGES, False)[0], found[1], atol=1e-6)
    assert width == [8]


def test_last_maps_take_one_pass():
    backbone = small()
    moving = backbone.network.get_layer("stage1_bn").moving_mean
    mean = np.mean(backbone.network.get_layer("stage1_conv")(backbone.prepared(IMAGES)), (0, 1, 2))
    last_maps(backbone, 3)[0](IMAGES, True)
    np.testing.assert_allclose(moving, 0.1 * mean, atol=1e-5)


def test_maps_of_more_stages_than_there_are_are_refused():
    with pytest.raises(ValueError, match="last 5 stages give feature maps.*last one alone"):
        last_maps(small(), 5)
    with pytest.raises(ValueError, match="last 2 stages give feature maps"):
        last_maps(backbones.small_vit((32, 32, 3)), 2)
