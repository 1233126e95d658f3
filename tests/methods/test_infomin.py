"""InfoMin: what it shares with MoCo, what the jigsaw adds, who is trained by which term."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import batches
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import losses
from keras_ssl.layers import heads, norm


def infomin(**kwargs):
    keras.utils.set_random_seed(1)
    arguments = {"queue_size": 40, "momentum": 0.9, "temperature": 0.5, **kwargs}
    model = keras_ssl.InfoMin(tiny_backbone(), **arguments)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch_of(model):
    return next(iter(batches(model)))


def test_terms_against_one_queue_of_keys_of_plain_views():
    """Both terms compare with the key of the second view; keys enter after both were formed."""
    model = infomin(groups=1, weight=0.3)
    batch = batch_of(model)
    view1, view2, *patches = (np.array(view) for view in batch["views"])
    assert len(patches) == 4 and patches[0].shape == (16, 3, 3, 3)
    before = model.queue.keys.numpy()
    key = model.key_projector(model.key_backbone(view2, training=True), training=True)
    query = model.projector(model.backbone(view1, training=True), training=True)
    by_image = np.stack(patches, axis=1).reshape(64, 3, 3, 3)
    features = np.array(model.backbone(by_image, training=True)).reshape(16, 4, -1)
    jigsaw = model.jigsaw_projector(features)
    expected = [float(losses.info_nce(z, key, before, 0.5)) for z in (query, jigsaw)]
    found = model.compute_losses(batch, training=True)
    np.testing.assert_allclose([found["image_loss"], found["jigsaw_loss"]], expected, rtol=1e-4)
    np.testing.assert_allclose(found["loss"], 0.7 * expected[0] + 0.3 * expected[1], rtol=1e-4)
    unit = np.array(key) / np.linalg.norm(key, axis=1, keepdims=True)
    np.testing.assert_allclose(model.queue.keys[:16], unit, atol=1e-5)
    np.testing.assert_array_equal(model.queue.keys[16:], before[16:])


def test_without_the_jigsaw_it_is_moco():
    """Same weights, same two views: the loss and every weight of MoCo v2 after two steps."""
    model = infomin(grid=0, groups=2)
    keras.utils.set_random_seed(1)
    moco = keras_ssl.MoCo(
        tiny_backbone(), heads.mlp(8, (8, 128), use_bias=True, hidden_norm=False, output_norm=None),
        temperature=0.5, queue_size=40, momentum=0.9, groups=2,
    )  # fmt: skip
    moco.compile(keras.optimizers.SGD(0.1))
    for name in ("backbone", "projector", "key_backbone", "key_projector", "queue"):
        getattr(moco, name).set_weights(getattr(model, name).get_weights())
    assert model.jigsaw_projector is None
    ready = batches(model, steps=2)
    losses_of = [m.fit(ready, epochs=1, verbose=0).history["loss"] for m in (model, moco)]
    np.testing.assert_allclose(*losses_of, rtol=1e-6)
    for name in ("backbone", "projector", "key_backbone", "queue"):
        for a, b in zip(getattr(model, name).weights, getattr(moco, name).weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_log_of_all_keys_when_everything_coincides():
    model = infomin()
    constant = keras.initializers.Constant(1.0)
    for head in (model.projector, model.jigsaw_projector, model.key_projector):
        for weight in head.weights:
            weight.assign(
                np.zeros(weight.shape) if "kernel" in weight.path else np.ones(weight.shape)
            )
    model.queue.keys.assign(constant((40, 128)))
    found = model.compute_losses(batch_of(model), training=False)
    np.testing.assert_allclose(list(found.values()), np.log(41), rtol=1e-5)


@pytest.mark.parametrize("weight, still", [(0.0, "jigsaw_projector"), (1.0, "projector")])
def test_each_term_trains_its_own_head(weight, still):
    model = infomin(weight=weight)
    state = [*model.key_backbone.weights, *model.key_projector.weights, model.queue.keys]
    with tf.GradientTape() as tape:
        for value in state:
            tape.watch(value.value)
        loss = model.compute_losses(batch_of(model), training=True)["loss"]
    heads_of = {name: getattr(model, name) for name in ("projector", "jigsaw_projector")}
    trained = {name: [v.value for v in head.trainable_variables] for name, head in heads_of.items()}
    gradients = tape.gradient(loss, [trained, [v.value for v in state]])
    for name, found in gradients[0].items():
        assert all(g is None or not np.abs(g).max() for g in found) is (name == still)
    assert all(g is None for g in gradients[1])


def test_statistics_of_patches_are_those_of_their_group():
    """With two groups a patch sees the patches of the images of its half of the batch."""
    model = infomin(groups=2)
    patches = [images(16, (3, 3, 3), seed=i).astype("float32") / 255 for i in range(4)]
    with norm.grouped(2):
        found = np.array(model._jigsaw_query(patches, True))
    halves = [[p[:8] for p in patches], [p[8:] for p in patches]]
    expected = np.concatenate([model._jigsaw_query(half, True) for half in halves])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_key_encoder_is_the_average_after_the_step():
    def weights(*networks):
        return [w.numpy() for net in networks for w in net.weights if "moving" not in w.path]

    model = infomin()
    old = weights(model.key_backbone, model.key_projector)
    model.fit(batches(model, steps=1), verbose=0)
    new = weights(model.backbone, model.projector)
    moved = weights(model.key_backbone, model.key_projector)
    for a, b, c in zip(moved, old, new, strict=True):
        np.testing.assert_allclose(a, 0.9 * b + 0.1 * c, atol=1e-6)


def test_settings_follow_the_size():
    small, large = (
        infomin(queue_size=None, momentum=None),
        keras_ssl.InfoMin(tiny_backbone((96, 96, 3))),
    )
    assert (small.queue_size, small.momentum, small.grid) == (4096, 0.99, 2)
    assert (large.queue_size, large.momentum, large.grid) == (65_536, 0.999, 3)
    assert large.temperature == 0.15 and large.weight == 0.5
    assert large.jigsaw_projector.input_shape == (None, 9, 8)
    pair, patches = large.default_views((96, 96)).pipelines
    kinds = [type(op).__name__ for op in pair.first.ops]
    assert kinds == [
        "RandomResizedCrop",
        "HorizontalFlip",
        "ColorJitter",
        "GaussianBlur",
        "RandAugment",
        "Grayscale",
    ]
    assert pair.first.ops[0].scale == (0.2, 1.0) and patches.grid == 3
    optimizer = large.paper_optimizer(100, 256)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 100)]
    np.testing.assert_allclose(rates, [0.03, 3e-5], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"weight": 1.5}, "weight=1.5"),
        ({"grid": -1}, "grid=-1"),
        ({"projector": heads.mlp(8, (5,))}, None),
    ],
)
def test_wrong_arguments(arguments, message):
    if message is None:
        arguments["jigsaw_projector"] = heads.mlp(8, (6,), name="other")
        message = "one width.*5 and 6"
    with pytest.raises(ValueError, match=message):
        infomin(**arguments)


def test_views_without_patches_are_refused():
    model = infomin()
    batch = {"views": batch_of(model)["views"][:2]}
    with pytest.raises(ValueError, match="query, key and 4 patches.*0 patches"):
        model.compute_losses(batch, training=True)
