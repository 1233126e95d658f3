"""SimSiam: its equation and variants, where gradients go, the predictor's rate, collapse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import head
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import losses, optimizers
from keras_ssl.callbacks import CollapseMonitor
from keras_ssl.layers import heads


def simsiam(norm="plain", **kwargs):
    keras.utils.set_random_seed(1)
    return keras_ssl.SimSiam(tiny_backbone(), head(norm), **kwargs)


def batch(n=16):
    return next(iter(ready_batches(n, n)))


def unit(x):
    x = np.array(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def outputs(model, view):
    """Projection and prediction of a view, without the model's own code."""
    z = model.projector(model.backbone(view, training=True), training=True)
    return z, model.predictor(z, training=True) if model.use_predictor else z


def loss_of(model, b):
    return float(model.compute_losses(b, training=True)["loss"])


def test_loss_is_the_mean_negative_cosine_of_both_orders():
    model, b = simsiam(), batch()
    (z1, p1), (z2, p2) = (outputs(model, view) for view in b["views"])
    cosines = [np.mean((unit(p) * unit(z)).sum(1)) for p, z in ((p1, z2), (p2, z1))]
    assert loss_of(model, b) == pytest.approx(-np.mean(cosines), rel=1e-5)
    assert abs(cosines[0] - cosines[1]) > 1e-3
    distances = [np.mean(((unit(p) - unit(z)) ** 2).sum(1)) for p, z in ((p1, z2), (p2, z1))]
    assert loss_of(model, b) == pytest.approx((sum(distances) - 4) / 4, abs=1e-5)  # BYOL's
    model.symmetric = False
    assert loss_of(model, b) == pytest.approx(-cosines[0], rel=1e-5)


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = simsiam(), batch()
    v1, v2 = b["views"]
    order = np.random.default_rng(0).permutation(16)
    permuted = {"views": (tf.gather(v2, order), tf.gather(v1, order))}
    assert loss_of(model, permuted) == pytest.approx(loss_of(model, b), abs=1e-6)  # of cosines


def test_equal_views_without_predictor_have_loss_minus_one():
    model, view = simsiam(use_predictor=False), batch()["views"][0]
    assert model.predictor is None
    assert loss_of(model, {"views": (view, view)}) == pytest.approx(-1, abs=1e-6)


def gradient_of(model, b):
    with tf.GradientTape() as tape:
        loss = model.compute_losses(b, training=True)["loss"]
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_targets_are_held_still(stop_gradient):
    """The gradient is that with targets computed beforehand, unless `stop_gradient` is off."""
    model, b = simsiam(symmetric=False, stop_gradient=stop_gradient), batch()
    found = gradient_of(model, b)
    target = unit(outputs(model, b["views"][1])[0])
    with tf.GradientTape() as tape:
        loss = losses.negative_cosine(outputs(model, b["views"][0])[1], target)
    expected = tape.gradient(loss, [v.value for v in model.trainable_variables])
    errors = [np.abs(a - b).max() for a, b in zip(found, expected)]
    assert max(np.abs(g).max() for g in expected) > 1e-2
    assert max(errors) < 1e-5 if stop_gradient else max(errors) > 1e-3


def test_asymmetric_loss_has_no_gradient_for_the_second_view():
    for stop_gradient in (True, False):
        model, b = simsiam(symmetric=False, stop_gradient=stop_gradient), batch()
        with tf.GradientTape() as tape:
            tape.watch(b["views"])
            loss = model.compute_losses(b, training=True)["loss"]
        first, second = tape.gradient(loss, b["views"])
        assert np.abs(first).max() > 1e-5 and (second is None) == stop_gradient


def test_projections_have_mean_zero_and_variance_one():
    model = keras_ssl.SimSiam(tiny_backbone())
    z = np.array(outputs(model, 5 * batch(64)["views"][0])[0])
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    assert np.median(np.abs(z.var(0) - 1)) < 1e-2
    assert not model.projector.layers[-1].trainable_variables


def kernels(network):
    return [tuple(w.shape) for w in network.weights if w.path.endswith("kernel")]


def test_networks_of_the_paper():
    small = keras_ssl.SimSiam(tiny_backbone())
    large = keras_ssl.SimSiam(tiny_backbone((96, 96, 3), width=12))
    assert kernels(small.projector) == [(8, 2048), (2048, 2048)]
    assert kernels(large.projector) == [(12, 12), (12, 12), (12, 2048)]
    for model in (small, large):
        assert kernels(model.predictor) == [(2048, 512), (512, 2048)]
        biases = [w.path for w in model.predictor.weights if w.path.endswith("bias")]
        assert biases == ["predictor_dense2/bias"]


def test_the_predictors_rate_is_constant():
    """At the last step of the schedule all but the predictor stand still."""
    model = simsiam()
    peak = 0.03 * 16 / 256
    optimizer = model.paper_optimizer(total_steps=4, batch_size=16)
    model.compile(optimizer)
    model.build_optimizer()
    for step, share in ((0, 1.0), (2, 0.5), (4, 0.0)):
        before = [np.array(v) for v in model.trainable_variables]
        for velocity in optimizer.velocities:
            velocity.assign(np.zeros(velocity.shape))
        optimizer.iterations.assign(step)
        optimizer.weight_decay = 0.0
        ones = [tf.ones(v.shape) for v in model.trainable_variables]
        optimizer.apply(ones, model.trainable_variables)
        for variable, old in zip(model.trainable_variables, before):
            rate = peak * (1 if "predictor" in variable.path else share)
            np.testing.assert_allclose(old - np.array(variable), rate, atol=2e-7)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.fixed_rates == optimizer.fixed_rates and len(again.fixed_rates) == 5


def test_default_optimizers():
    small = simsiam(use_predictor=False).paper_optimizer(100, 512)
    large = keras_ssl.SimSiam(tiny_backbone((96, 96, 3))).paper_optimizer(100, 512)
    for optimizer, peak, decay in ((small, 0.06, 5e-4), (large, 0.1, 1e-4)):
        rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 100)]
        np.testing.assert_allclose(rates, [peak, peak / 2, 0], atol=1e-7)
        assert optimizer.weight_decay == decay
    assert small.fixed_rates == {} and set(large.fixed_rates.values()) == {0.1}


def test_a_rate_for_nothing_is_refused():
    model = simsiam()
    model.compile(optimizers.SGD(0.1, fixed_rates={"prediction": 0.2}))
    with pytest.raises(
        ValueError, match="`fixed_rates` must name variables.*'prediction', the path of 0"
    ):
        model.fit(ready_batches(16, 16), verbose=0)
    with pytest.raises(ValueError, match="`fixed_rates` must be >= 0"):
        optimizers.SGD(0.1, fixed_rates={"predictor": -0.1})


def spread(model, view):
    """Root of the summed variances of unit-length projections: 1 if isotropic, 0 for one point."""
    return np.sqrt(unit(outputs(model, view)[0]).var(0).sum())


def test_outputs_collapse_without_stop_gradient():
    """One network, one run; the flag alone decides.

    The projector has no batch normalisation at its end, which by itself keeps outputs apart.
    """
    found = {}
    for stop_gradient in (True, False):
        keras.utils.set_random_seed(1)
        projector = heads.mlp(8, (32, 32), output_norm=None, kernel_initializer="lecun_normal")
        model = keras_ssl.SimSiam(tiny_backbone(), projector, stop_gradient=stop_gradient)
        model.compile(optimizers.SGD(0.3, weight_decay=5e-3))
        data = ready_batches(64, 64)
        model.fit(data, epochs=200, verbose=0)
        found[stop_gradient] = spread(model, next(iter(data))["views"][0])
        assert loss_of(model, next(iter(data))) < -0.95
    assert found[True] > 0.5 and found[False] < 0.05


def strong_views(images=256, draws=4):
    """Batches of colour patches, each drawn several times with other colours, noise and flips."""
    rng = np.random.default_rng(0)
    patches = rng.random((images, 2, 2, 3)).repeat(4, 1).repeat(4, 2)
    order = np.concatenate([rng.permutation(images) for _ in range(draws)])
    views = []
    for _ in range(2):
        gain, shift = rng.uniform((0.2, -0.4), (1.8, 0.4), (len(order), 1, 1, 3, 2)).T
        x = (patches[order] - 0.5) * gain.T + 0.5 + shift.T
        x += 0.2 * rng.standard_normal(x.shape)
        flipped = np.where(rng.random((len(order), 1, 1, 1)) < 0.5, x, x[:, :, ::-1])
        views.append(np.clip(flipped, 0, 1).astype("float32"))
    dataset = tf.data.Dataset.from_tensor_slices({"views": tuple(views)})
    return patches.astype("float32"), dataset.batch(64, drop_remainder=True).cache()


def test_the_monitor_names_the_collapse():
    """The paper's projector: equal weights, views and steps; the flag alone decides."""
    patches, data = strong_views()
    monitors = {}
    for stop_gradient in (True, False):
        keras.utils.set_random_seed(1)
        model = keras_ssl.SimSiam(tiny_backbone(), head("plain"), stop_gradient=stop_gradient)
        model.compile(optimizers.SGD(0.1, momentum=0.9))
        monitors[stop_gradient] = monitor = CollapseMonitor(patches)
        model.fit(data, epochs=20, verbose=0, callbacks=[monitor])
    sound, spoilt = monitors[True], monitors[False]
    assert sound.verdict.status == "healthy"
    assert spoilt.verdict.status in ("collapsed", "dimensional collapse")
    lately = [
        np.median([row["embedding_uniformity"] for row in m.history[-3:]]) for m in (sound, spoilt)
    ]
    assert lately[0] < -1 and lately[1] > -0.3
    assert spoilt.history[-1]["embedding_rankme"] < 0.5 * sound.history[-1]["embedding_rankme"]
    assert spoilt.history[-1]["loss"] < sound.history[-1]["loss"] - 0.05


def test_embeddings_have_unit_length():
    np.testing.assert_allclose(np.linalg.norm(simsiam().embed(images(4)), axis=1), 1, atol=1e-5)


def test_a_predictor_and_none_is_refused():
    with pytest.raises(ValueError, match="`use_predictor` must be True where `predictor`"):
        simsiam(predictor=simsiam().predictor, use_predictor=False)
