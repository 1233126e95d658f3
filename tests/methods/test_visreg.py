"""VISReg: its loss on its own embeddings, what each term does, the authors' settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from losses.test_normality import plain_visreg
from methods.test_lejepa import embeddings, losses_of, slices_of, small_head
from methods.test_swav import batch_of, counted
from toys import images, tiny_backbone

import keras_ssl


def visreg(**options):
    keras.utils.set_random_seed(1)
    return keras_ssl.VISReg(tiny_backbone(), small_head(), **{"num_slices": 30, **options})


@pytest.mark.parametrize(("large", "small"), [(2, 0), (4, 0), (2, 3), (1, 2)])
def test_loss_is_the_papers_for_views_of_one_size_and_of_two(large, small):
    weights = {"center_weight": 0.5, "scale_weight": 2.0, "shape_weight": 3.0}
    model = visreg(regularizer_weight=0.7, **weights)
    batch = batch_of(large=large, small=small)
    z = embeddings(model, batch)
    invariance = np.square(z - z[:large].mean(0)).mean()
    center, scale, shape = plain_visreg(z, slices_of(model))
    expected = {
        "loss": 0.3 * invariance + 0.7 * (0.5 * center + 2 * scale + 3 * shape),
        "invariance": invariance,
        "center": center,
        "scale": scale,
        "shape": shape,
    }
    assert losses_of(model, batch) == pytest.approx(expected, rel=1e-4)


def test_views_of_one_size_are_one_batch_of_backbone_and_projector():
    model = visreg()
    calls, projected = counted(model.backbone.network), counted(model.projector)
    model.compute_losses(batch_of(5, large=2, small=3), training=True)
    assert calls == [(10, 8, 8, 3), (15, 4, 4, 3)] and projected == [(10, 8), (15, 8)]


def test_every_step_has_slices_of_its_own():
    model, batch = visreg(), batch_of()
    found = []
    for seen in (0, 0, 1):
        model.batches_seen.assign(seen)
        found.append(losses_of(model, batch))
    assert found[0] == found[1]
    assert [name for name in found[0] if found[0][name] != found[2][name]] == ["loss", "shape"]


def test_gradients_reach_every_view_and_every_weight():
    model, batch = visreg(), batch_of(large=2, small=1)
    with tf.GradientTape() as tape:
        tape.watch(batch["views"])
        loss = model.compute_losses(batch, training=True)["loss"]
    of_views, of_weights = tape.gradient(
        loss, [batch["views"], [v.value for v in model.trainable_variables]]
    )
    assert all(np.abs(g).max() > 1e-6 for g in (*of_views, *of_weights))


def test_constant_embeddings_have_the_loss_of_collapse():
    """All views alike: no distance, no spread, and sorted zeros in the place of quantiles."""
    model = visreg(regularizer_weight=0.5)
    model.projector.layers[-1].kernel.assign(np.zeros((32, 12)))
    found = losses_of(model, batch_of(50))
    assert found["invariance"] == found["center"] == 0
    assert found["scale"] == pytest.approx(1, rel=1e-4) and 0.8 < found["shape"] < 1


@pytest.mark.parametrize("scale_weight", [1.0, 0.0])
def test_the_scale_term_brings_standard_deviations_to_one(scale_weight):
    model = visreg(scale_weight=scale_weight, regularizer_weight=0.6)
    model.compile(keras.optimizers.Adam(1e-2))
    base = images(64, dtype="float32")
    noise = np.random.default_rng(1).normal(size=(2, *base.shape)).astype("float32")
    data = tf.data.Dataset.from_tensors({"views": tuple(np.clip(base + 0.1 * noise, 0, 1))})
    model.fit(data.repeat(80), epochs=1, steps_per_epoch=80, verbose=0)
    spread = embeddings(model, {"views": [base]})[0].std(0)
    assert 0.7 < spread.mean() < 1.3 if scale_weight else spread.mean() < 0.5


def test_settings_of_the_authors():
    small = keras_ssl.VISReg(tiny_backbone())
    assert (small.regularizer_weight, small.num_slices) == (0.6, 1024)
    kernels = [w.shape for w in small.projector.weights if w.path.endswith("kernel")]
    assert kernels == [(8, 2048), (2048, 2048), (2048, 128)]
    large = keras_ssl.VISReg(tiny_backbone((64, 64, 3)))
    assert (large.regularizer_weight, large.num_slices) == (0.9, 4096)
    assert large.projector.output_shape == (None, 256)
    activations = [layer.get_config().get("activation") for layer in large.projector.layers]
    assert activations.count("gelu") == 2
    assert large.default_views((224, 224)).counts == (4, 6)
    assert small.default_views((32, 32)).counts == (2,)
    small.steps_per_epoch.assign(10)
    optimizer = small.paper_optimizer(1000, 256)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 1000)]
    np.testing.assert_allclose(rates, [0, 9e-4, 9e-7], rtol=1e-4, atol=1e-9)
    assert (optimizer.global_clipnorm, optimizer.weight_decay) == (1.0, 0.05)


def test_embeddings():
    assert visreg().embed(images(4)).shape == (4, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer_weight": 1.1}, r"`regularizer_weight` must be in \[0, 1\].*1.1"),
        ({"center_weight": -1.0}, "`center_weight` must be >= 0.*-1.0"),
        ({"scale_weight": -1.0}, "`scale_weight` must be >= 0.*-1.0"),
        ({"shape_weight": float("nan")}, "`shape_weight` must be >= 0.*nan"),
        ({"num_slices": 0}, "`num_slices` must be >= 1.*0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        visreg(**options)


def test_one_view_is_too_few():
    model, batch = visreg(), batch_of(large=1, small=0)
    with pytest.raises(ValueError, match="two views at least. Received: 1.*views.lejepa"):
        model.compute_losses(batch, training=True)
