"""LeJEPA: its loss on its own embeddings, which views are global, slices, the published forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from losses.test_normality import plain_epps_pulley, plain_sigreg
from methods.test_swav import batch_of, counted
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl.layers import heads
from keras_ssl.ops import draws


def small_head():
    """Two layers of normal initialisation, 12 wide at the end."""
    return heads.mlp(8, (32, 12), output_norm=None, kernel_initializer="lecun_normal")


def lejepa(**options):
    keras.utils.set_random_seed(1)
    return keras_ssl.LeJEPA(tiny_backbone(), small_head(), **{"num_slices": 30, **options})


def embeddings(model, batch):
    """In inference mode, view by view, `(V, N, D)`."""
    return np.stack([np.array(model.embed(view)) for view in batch["views"]])


def losses_of(model, batch, training=False):
    return {name: float(v) for name, v in model.compute_losses(batch, training).items()}


def slices_of(model):
    return np.array(draws.slices(model.draw_key, 12, model.num_slices), "float64")


@pytest.mark.parametrize(("large", "small"), [(2, 0), (4, 0), (2, 3), (1, 2)])
def test_loss_is_the_papers_for_views_of_one_size_and_of_two(large, small):
    model, batch = lejepa(sigreg_weight=0.3), batch_of(large=large, small=small)
    z = embeddings(model, batch)
    invariance = np.square(z - z[:large].mean(0)).mean()
    sigreg = plain_sigreg(z, slices_of(model))
    found = losses_of(model, batch)
    assert found["invariance"] == pytest.approx(invariance, rel=1e-4)
    assert found["sigreg"] == pytest.approx(sigreg, rel=1e-4)
    assert found["loss"] == pytest.approx(0.7 * invariance + 0.3 * sigreg, rel=1e-4)


def test_the_form_of_eb_jepa():
    """mse(z1, z2) + 10 times the mean of both statistics, without the factor N."""
    form = {"sigreg_weight": 10.0, "invariance_weight": 4.0, "num_points": 10}
    model, batch = lejepa(**form, scale_by_batch=False), batch_of(small=0)
    z1, z2 = embeddings(model, batch)
    tests = [plain_epps_pulley(z, slices_of(model)) for z in (z1, z2)]
    expected = np.square(z1 - z2).mean() + 10 * np.mean(tests)
    assert losses_of(model, batch)["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_order_of_images_and_of_views_of_one_size_does_not_count():
    model, batch = lejepa(), batch_of(large=3, small=2)
    value = losses_of(model, batch)["loss"]
    order = np.random.default_rng(0).permutation(10)
    a, b, c, d, e = batch["views"]
    shuffled = {"views": tuple(ops.take(view, order, axis=0) for view in batch["views"])}
    for other in (shuffled, {"views": (c, a, b, e, d)}):
        assert losses_of(model, other)["loss"] == pytest.approx(value, rel=1e-5)
    same, mixed = {"views": (a, a)}, {"views": (a, ops.take(a, order, axis=0))}
    assert losses_of(model, same)["invariance"] < 1e-9 < losses_of(model, mixed)["invariance"]


def test_views_of_one_size_are_one_batch_of_backbone_and_projector():
    model = lejepa()
    calls, projected = counted(model.backbone.network), counted(model.projector)
    model.compute_losses(batch_of(5, large=2, small=3), training=True)
    assert calls == [(10, 8, 8, 3), (15, 4, 4, 3)] and projected == [(10, 8), (15, 8)]


def test_every_step_and_seed_has_slices_of_its_own():
    model, batch = lejepa(), batch_of()
    values = []
    for seed, seen in ((0, 0), (0, 0), (0, 1), (1, 0)):
        model.run_seed.assign(seed)
        model.batches_seen.assign(seen)
        values.append(losses_of(model, batch)["sigreg"])
    assert values[0] == values[1] and len(set(values)) == 3


def test_gradients_reach_every_view_and_every_weight():
    model, batch = lejepa(), batch_of(large=2, small=1)
    with tf.GradientTape() as tape:
        tape.watch(batch["views"])
        loss = model.compute_losses(batch, training=True)["loss"]
    of_views, of_weights = tape.gradient(
        loss, [batch["views"], [v.value for v in model.trainable_variables]]
    )
    assert all(np.abs(g).max() > 1e-6 for g in (*of_views, *of_weights))


@pytest.mark.parametrize("weight", [0.05, 0.0])
def test_sigreg_keeps_embeddings_apart(weight):
    model = lejepa(sigreg_weight=weight, num_slices=64, num_points=9)
    model.compile(keras.optimizers.Adam(1e-2))
    base = images(64, dtype="float32")
    noise = np.random.default_rng(1).normal(size=(2, *base.shape)).astype("float32")
    data = tf.data.Dataset.from_tensors({"views": tuple(np.clip(base + 0.1 * noise, 0, 1))})
    model.fit(data.repeat(80), epochs=1, steps_per_epoch=80, verbose=0)
    spread = embeddings(model, {"views": [base]})[0].std(0)
    assert 0.6 < spread.mean() < 1.4 if weight else spread.mean() < 0.2


def test_settings_of_the_authors():
    model = keras_ssl.LeJEPA(tiny_backbone())
    kernels = [w.shape for w in model.projector.weights if w.path.endswith("kernel")]
    assert kernels == [(8, 2048), (2048, 2048), (2048, 128)]
    assert "bn" not in model.projector.layers[-1].name
    other = keras_ssl.LeJEPA(tiny_backbone((64, 64, 3)))
    assert other.projector.output_shape == (None, 64)
    assert (model.sigreg_weight, other.sigreg_weight) == (0.01, 0.02)
    large = model.default_views((224, 224))
    assert large.counts == (2, 6) and model.default_views((32, 32)).counts == (2,)
    model.steps_per_epoch.assign(5)
    optimizer = model.paper_optimizer(1000, 256)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 1000)]
    np.testing.assert_allclose(rates, [0, 5e-4, 5e-7], rtol=1e-4, atol=1e-9)
    assert optimizer.weight_decay == 5e-4


def test_embeddings_are_not_normalised():
    z = lejepa().embed(images(4))
    assert z.shape == (4, 12) and z.dtype == "float32"
    assert np.ptp(np.linalg.norm(z, axis=1)) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigreg_weight": -0.1}, "`sigreg_weight` must be >= 0.*-0.1"),
        ({"invariance_weight": float("nan")}, "`invariance_weight` must be >= 0.*nan"),
        ({"sigreg_weight": 10.0}, "`sigreg_weight` must be at most 1.*10.0. Give both"),
        ({"num_slices": 0}, "`num_slices` must be >= 1.*0"),
        ({"num_points": 1}, "`num_points` must be >= 2.*1"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        lejepa(**options)


def test_one_view_is_too_few():
    model, batch = lejepa(), batch_of(large=1, small=0)
    with pytest.raises(ValueError, match="two views at least. Received: 1.*views.lejepa"):
        model.compute_losses(batch, training=True)
