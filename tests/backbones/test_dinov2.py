"""KerasHub's DINOv2 and this library's transformer with its weights compute the same."""

import keras
import numpy as np
import pytest
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import backbones
from keras_ssl.backbones import adopt, from_dinov2

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub").models


def dinov2(hub, **options):
    """Two blocks on patches of 4 pixels, no weight at its trivial start."""
    sizes = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 32}
    sizes |= {"num_register_tokens": 2, "position_embedding_shape": (24, 24, 3)} | options
    model = hub.DINOV2Backbone(patch_size=4, image_shape=SHAPE, **sizes)
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("registers", [0, 2])
def test_features_and_maps_are_dinov2s(hub, registers):
    model = dinov2(hub, num_register_tokens=registers)
    ours = from_dinov2(model)
    theirs = adopt(model, preprocessing="imagenet", num_prefix_tokens=1 + registers)
    pixels = images(3, SHAPE)
    np.testing.assert_allclose(ours(pixels), theirs(pixels), atol=1e-4)
    np.testing.assert_allclose(ours.feature_map(pixels), theirs.feature_map(pixels), atol=1e-4)
    # Trained are all but the table for another size, which KerasHub keeps beside the one in use,
    # and the token for masks.
    apart = 37 * 8 + 8
    assert sum(np.prod(w.shape) for w in model.weights) - apart == ours.count_params()


def test_an_adopted_backbone_keeps_its_scaling_and_pooling(hub):
    theirs = adopt(
        dinov2(hub), preprocessing="symmetric", pooling="avg", num_prefix_tokens=3, name="mine"
    )
    ours = from_dinov2(theirs, drop_path=0.2)
    pixels = images(2, SHAPE)
    assert ours.name == "mine" and ours.pooling == "avg"
    np.testing.assert_allclose(ours(pixels), theirs(pixels), atol=1e-4)
    assert ours.network.get_layer("block2_drop_path1").rate == 0.2


@pytest.mark.parametrize(
    ("method", "options"),
    [("mae", {}), ("simmim", {}), ("ibot", {"num_prototypes": 8}), ("ijepa", {"num_targets": 2})],
)
def test_methods_that_hide_patches_train_on_from_dinov2(hub, method, options):
    theirs = adopt(dinov2(hub, num_register_tokens=0), preprocessing="imagenet")
    model = keras_ssl.create(method, SHAPE, theirs, **options)
    pixels = images(16, SHAPE)
    before = np.array(model.encode(pixels))
    np.testing.assert_allclose(before, theirs(pixels), atol=1e-4)
    model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(pixels, batch_size=8, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert np.abs(np.array(model.encode(pixels)) - before).max() > 1e-4


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # for the token of masks
@pytest.mark.parametrize("method", ["dino", "simdino"])
def test_teacher_and_student_begin_as_the_encoder_that_came(hub, method):
    theirs = adopt(dinov2(hub, num_register_tokens=0), preprocessing="imagenet")
    pixels = images(16, SHAPE)
    before = np.array(theirs(pixels))
    model = keras_ssl.create(method, SHAPE, theirs, momentum=0.9)
    np.testing.assert_allclose(model.teacher_backbone(pixels), before, atol=1e-5)
    model.fit(pixels, batch_size=8, epochs=1, verbose=0)
    moved = [
        np.abs(np.array(net(pixels)) - before).max() for net in (theirs, model.teacher_backbone)
    ]
    assert moved[0] > moved[1] > 1e-5  # the teacher follows at a distance


@pytest.mark.parametrize("method", ["dino", "simdino", "swav", "lejepa", "visreg"])
def test_networks_of_one_size_get_views_of_one_size(hub, method):
    fixed = adopt(dinov2(hub, num_register_tokens=0), preprocessing="imagenet")  # of 16 px
    sizes = [
        [
            tuple(view.shape)
            for view in _views(keras_ssl.create(method, network.image_shape, network))
        ]
        for network in (fixed, from_dinov2(fixed))
    ]
    assert len(sizes[0]) >= 2 and set(sizes[0]) == {(96, 96, 3)}
    assert len(sizes[1]) > 2 and len(set(sizes[1])) == 2


def _views(model):
    image = keras.ops.convert_to_tensor(images(1, (96, 96, 3))[0])
    return model.default_views((96, 96))(image, (0, 1))["views"]


def test_other_networks_are_refused(hub):
    with pytest.raises(ValueError, match="`model` must be a DINOV2Backbone of KerasHub. Received"):
        from_dinov2(tiny_backbone())
    with pytest.raises(ValueError, match="four times as wide.*intermediate_dim=16"):
        from_dinov2(dinov2(hub, num_register_tokens=0, intermediate_dim=16))
    with pytest.raises(ValueError, match="use_swiglu_ffn=True"):
        from_dinov2(dinov2(hub, num_register_tokens=0, use_swiglu_ffn=True))
    assert not backbones.is_dinov2(backbones.vit(8, 1, 2, SHAPE))
