"""MoCo v3: the loss against its closed forms, the key encoder's course, both forms of network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import backbones
from keras_ssl.layers import heads


def moco(**kwargs):
    keras.utils.set_random_seed(1)
    wide = {"kernel_initializer": "lecun_normal"}
    small = {
        "projector": heads.mlp(8, (24, 16), output_norm="plain", **wide),
        "predictor": heads.mlp(16, (24, 16), output_norm=None, name="predictor", **wide),
    }
    model = keras_ssl.MoCoV3(tiny_backbone(), **{"momentum": 0.9, **small, **kwargs})
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch(seed=0):
    return next(iter(ready_batches(16, 16, seed=seed)))


def linear(width, kernel=None):
    """A network that multiplies by `kernel`, by default the identity."""
    inputs = keras.Input((width,))
    network = keras.Model(inputs, keras.layers.Dense(width, use_bias=False)(inputs))
    network.set_weights([np.eye(width) if kernel is None else kernel])
    return network


def pixels(count, projector=None, predictor=None, **kwargs):
    """A method whose features are the pixels of images of one row."""
    inputs = keras.Input((1, count, 1))
    flat = keras.Model(inputs, keras.layers.Flatten()(inputs))
    networks = (projector or linear(count), predictor or linear(count))
    return keras_ssl.MoCoV3(backbones.Backbone(flat), *networks, **kwargs)


def weights(*networks):
    return [w.numpy() for network in networks for w in network.weights if "moving" not in w.path]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_aligned_orthonormal_images(temperature):
    view = np.eye(6, dtype="float32").reshape(6, 1, 6, 1)
    model = pixels(6, temperature=temperature)
    loss = float(model.compute_losses({"views": (view, view)}, training=True)["loss"])
    expected = 4 * temperature * np.log(1 + 5 * np.exp(-1 / temperature))
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_collapse(temperature):
    views = tuple(np.random.default_rng(s).random((6, 1, 6, 1), "float32") for s in range(2))
    model = pixels(6, predictor=linear(6, np.outer(np.ones(6), np.arange(6))))
    model.temperature = temperature
    model.key_projector.set_weights(model.predictor.get_weights())
    loss = float(model.compute_losses({"views": views}, training=True)["loss"])
    assert loss == pytest.approx(4 * temperature * np.log(6), rel=1e-5)


def test_loss_is_that_of_the_other_views_keys():
    """Every row of queries against every row of keys of the other view, written out."""
    model, b = moco(temperature=0.3), batch()
    queries, keys = [], []
    for view in b["views"]:
        z = model.projector(model.backbone(view, training=True), training=True)
        queries.append(unit(model.predictor(z, training=True).numpy()))
        k = model.key_projector(model.key_backbone(view, training=True), training=True)
        keys.append(unit(k.numpy()))
    expected = 0.0
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for i in range(16):
            scores = np.exp([q[i] @ k[j] / 0.3 for j in range(16)])
            expected -= 2 * 0.3 * np.log(scores[i] / scores.sum()) / 16
    loss = float(model.compute_losses(b, training=True)["loss"])
    assert loss == pytest.approx(expected, rel=1e-5)


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = moco(), batch()
    loss = float(model.compute_losses(b, training=True)["loss"])
    order = np.random.default_rng(0).permutation(16)
    swapped = tuple(tf.gather(view, order) for view in reversed(b["views"]))
    again = float(model.compute_losses({"views": swapped}, training=True)["loss"])
    assert again == pytest.approx(loss, rel=1e-5)


def test_no_gradient_reaches_the_keys():
    model = moco()
    values = [v.value for v in [*model.key_backbone.weights, *model.key_projector.weights]]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))
    assert not any("predictor" in w.path for w in model.key_projector.weights)


def test_key_encoder_moves_as_at_the_start_of_the_authors_steps():
    """At the start of step n its momentum is that of n / T: nothing in step 0, nothing at the end.

    Students are those before each step; the last of them is never averaged.
    """
    model = moco(momentum=0.6)
    students, keys = [], []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            students.append(weights(model.backbone, model.projector))
            keys.append(weights(model.key_backbone, model.key_projector))

    model.fit(ready_batches(48, 16), verbose=0, callbacks=[Keep()])
    keys.append(weights(model.key_backbone, model.key_projector))
    expected = students[0]
    for step in range(3):
        m = 1 - 0.4 * (1 + np.cos(np.pi * step / 3)) / 2
        expected = [m * k + (1 - m) * s for k, s in zip(expected, students[step])]
        for a, b in zip(keys[step], expected):
            np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(keys[3], expected):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(keys[2], keys[1])) > 1e-4


def test_unknown_length_of_the_run_keeps_the_momentum():
    model = moco(momentum=0.5)
    first = weights(model.key_backbone)
    model.train_on_batch(batch())
    for old, student, key in zip(first, weights(model.backbone), weights(model.key_backbone)):
        np.testing.assert_allclose(key, 0.5 * old + 0.5 * student, atol=1e-6)


def layer_kinds(network):
    """Kernel shapes, and for each normalisation whether it has gain and offset."""
    found = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            found.append(tuple(layer.kernel.shape))
            assert not layer.use_bias
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.append((layer.scale, layer.center))
        elif isinstance(layer, keras.layers.ReLU):
            found.append("relu")
    return found


def test_networks_of_the_convolutional_form():
    model = keras_ssl.MoCoV3(tiny_backbone((96, 96, 3)))
    hidden, plain = [(True, True), "relu"], [(False, False)]
    assert layer_kinds(model.projector) == [(8, 4096), *hidden, (4096, 256), *plain]
    assert layer_kinds(model.predictor) == [(256, 4096), *hidden, (4096, 256)]
    assert (model.temperature, model.momentum) == (1.0, None)
    assert keras_ssl.MoCoV3(tiny_backbone()).temperature == 0.2
    optimizer = model.paper_optimizer(100, 4096)
    assert type(optimizer).__name__ == "LARS" and optimizer.weight_decay == 1e-6
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0, 4.8, 9.6, 4.8, 0], atol=1e-5)


def test_projections_have_mean_zero_and_variance_one():
    model, b = moco(), batch()
    z = model.projector(model.backbone(b["views"][0], training=True), training=True).numpy()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.var(0), 1, rtol=1e-3)


@pytest.fixture(scope="module")
def vit():
    """The transformer's form on a small network of the authors' kind."""
    keras.utils.set_random_seed(1)
    start = {"positions": "sincos", "initializer": "glorot_uniform", "frozen_patches": True}
    return keras_ssl.MoCoV3(backbones.vit_tiny((8, 8, 3), heads=12, **start))


def test_networks_of_the_transformer_form(vit):
    hidden, plain = [(True, True), "relu"], [(False, False)]
    middle = [(4096, 4096), *hidden]
    assert layer_kinds(vit.projector) == [(192, 4096), *hidden, *middle, (4096, 256), *plain]
    assert layer_kinds(vit.predictor) == [(256, 4096), *hidden, (4096, 256), *plain]
    assert vit.temperature == 0.2
    vit.steps_per_epoch.assign(1)
    optimizer = vit.paper_optimizer(300, 1024)
    assert type(optimizer) is keras.optimizers.AdamW and optimizer.weight_decay == 0.1
    rates = [float(optimizer._learning_rate(step)) for step in (0, 20, 40, 170, 300)]
    np.testing.assert_allclose(rates, [0, 3e-4, 6e-4, 3e-4, 0], atol=1e-8)


def test_views_above_64_pixels_are_the_scripts(vit):
    for model, scale in ((moco(), 0.2), (vit, 0.08)):
        crop = model.default_views((96, 96)).second.ops[0]
        assert crop.scale == (scale, 1.0) and crop.interpolation == "bilinear"
        small = model.default_views((32, 32)).first.ops[0]
        assert small.scale == (0.08, 1.0) and small.interpolation == "bicubic"


def test_frozen_patches_have_neither_gradient_nor_decay(vit):
    """One step of AdamW with a large decay moves everything else, and makes no state for them."""
    vit.compile(keras.optimizers.AdamW(1e-3, weight_decay=10.0))
    vit.build_optimizer()
    fixed = [
        vit.backbone.network.get_layer("patches").kernel,
        vit.backbone.network.get_layer("patches").bias,
        vit.backbone.network.get_layer("tokens").positions,
    ]
    ids = {id(v) for v in vit.trainable_variables}
    assert not any(id(v) in ids for v in fixed)
    slots = [v.path for v in vit.optimizer.variables]
    assert not any("patches" in path or "positions" in path for path in slots)
    before = [v.numpy() for v in fixed]
    moving = [v.numpy() for v in vit.trainable_variables]
    b = {"views": tuple(images(4, seed=seed, dtype="float32") for seed in range(2))}
    loss = vit.update({"views": tuple(map(tf.constant, b["views"]))})["loss"]
    assert np.isfinite(float(loss))
    for variable, old in zip(fixed, before):
        np.testing.assert_array_equal(variable, old)
    still = [
        v.path for v, old in zip(vit.trainable_variables, moving) if np.array_equal(v.numpy(), old)
    ]
    assert not still
    for key, query in zip(vit.key_backbone.weights, vit.backbone.weights):
        if "patches" in query.path:
            np.testing.assert_array_equal(key, query)


@pytest.mark.parametrize(
    "arguments, message",
    [({"temperature": 0.0}, "temperature=0.0"), ({"momentum": 1.1}, "momentum=1.1")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        moco(**arguments)


def test_embeddings_have_unit_length():
    z = moco().embed(images(4))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-5)
