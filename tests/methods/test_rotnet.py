"""What the objective of RotNet must be, whatever the network."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from toys import images, tiny_backbone

from keras_ssl import RotNet, backbones, views


def batch_of(n=6, size=8, seed=0):
    """Ready batch of random images and their rotations."""
    x = images(n, (size, size, 3), seed, "float32")
    return {
        "views": tuple(ops.convert_to_tensor(np.rot90(x, k, axes=(1, 2)).copy()) for k in range(4)),
        "rotations": ops.convert_to_tensor(np.tile(np.arange(4, dtype="int32"), (n, 1))),
    }


def losses_of(model, batch, training=False):
    return {name: float(v) for name, v in model.compute_losses(batch, training).items()}


def invariant_backbone(size=8):
    """Kernels that a rotation does not change, stride 1, global pooling."""
    model = keras.Sequential(
        [
            keras.Input((size, size, 3)),
            keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="first"),
            keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="second"),
        ]
    )
    for layer in model.layers:
        kernel = np.random.default_rng(1).normal(size=layer.kernel.shape)
        layer.kernel.assign(sum(np.rot90(kernel, k) for k in range(4)))
    inputs = keras.Input((size, size, 3))
    return backbones.Backbone(keras.Model(inputs, model(inputs)))


def test_equal_logits_cost_log_four():
    model = RotNet(tiny_backbone())
    model.head.set_weights([np.zeros((8, 4)), np.zeros(4)])
    losses = losses_of(model, batch_of())
    assert losses["loss"] == pytest.approx(math.log(4), rel=1e-6)
    assert losses["accuracy"] == 0.25


@pytest.mark.parametrize("training", [True, False])
def test_network_that_sees_no_orientation_cannot_beat_log_four(training):
    model = RotNet(invariant_backbone())
    batch = batch_of(12)
    model.head.set_weights([100 * w for w in model.head.get_weights()])
    features = [np.array(model.backbone(view)) for view in batch["views"]]
    for turned in features[1:]:
        np.testing.assert_allclose(turned, features[0], rtol=1e-4, atol=1e-4)
    losses = losses_of(model, batch, training)
    assert losses["loss"] >= math.log(4) and losses["accuracy"] == pytest.approx(0.25)


def test_loss_is_the_mean_cross_entropy_of_each_view_with_its_own_label():
    model, batch = RotNet(tiny_backbone()), batch_of()
    total, right = 0.0, 0
    for k, view in enumerate(batch["views"]):
        logits = np.array(model.head(model.backbone(view)), "float64")
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        total -= log_p[:, k].sum()
        right += (logits.argmax(1) == k).sum()
    losses = losses_of(model, batch)
    assert losses["loss"] == pytest.approx(total / 24, rel=1e-5)
    assert losses["accuracy"] == pytest.approx(right / 24)


def test_labels_come_from_the_batch_and_follow_their_views():
    model, batch = RotNet(tiny_backbone()), batch_of()
    value = losses_of(model, batch)
    order = [2, 0, 3, 1]
    together = {
        "views": tuple(batch["views"][k] for k in order),
        "rotations": ops.convert_to_tensor(np.tile(np.int32(order), (6, 1))),
    }
    assert losses_of(model, together) == pytest.approx(value, rel=1e-5)
    assert losses_of(model, {**batch, "rotations": together["rotations"]})["loss"] != pytest.approx(
        value["loss"], rel=1e-3
    )
    own = np.stack([np.roll([0, 1, 2, 3], i) for i in range(6)]).astype("int32")
    stacked = np.stack([np.array(view) for view in batch["views"]])  # (4, 6, ...)
    mixed = np.stack([[stacked[own[i, j], i] for i in range(6)] for j in range(4)])
    mixed = {"views": tuple(map(ops.convert_to_tensor, mixed)), "rotations": own}
    assert losses_of(model, mixed) == pytest.approx(value, rel=1e-5)


def test_all_rotations_pass_the_backbone_as_one_batch():
    model, calls = RotNet(tiny_backbone()), []
    call = model.backbone.network.call

    def counting(inputs, **kwargs):
        calls.append(tuple(inputs.shape))
        return call(inputs, **kwargs)

    model.backbone.network.call = counting
    model.compute_losses(batch_of(5), training=True)
    assert calls == [(20, 8, 8, 3)]


def test_learns_where_up_is():
    """Images with a bright upper edge: the four rotations become certain."""
    x = images(64, dtype="float32") * 0.5
    x[:, :2] += 0.5
    model = RotNet(tiny_backbone())
    model.compile(keras.optimizers.Adam(0.02))
    turned = views.Rotations(views.HorizontalFlip())
    history = model.fit(x, batch_size=32, epochs=20, views=turned, verbose=0).history
    assert history["accuracy"][-1] > 0.97 and history["loss"][-1] < 0.2


def test_default_views_and_optimizer_are_the_papers():
    model = RotNet(tiny_backbone())
    assert repr(model.default_views((32, 32))) == repr(views.rotnet(32))
    optimizer = model.paper_optimizer(1000, 128)
    schedule = optimizer.get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    steps = [0, 299, 300, 599, 600, 799, 800, 999]
    rates = [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008]
    np.testing.assert_allclose([float(schedule(step)) for step in steps], rates, rtol=1e-6)
    assert (optimizer.nesterov, optimizer.momentum, optimizer.weight_decay) == (True, 0.9, 5e-4)
    short = model.paper_optimizer(1, 128).get_config()["learning_rate"]
    rate = float(keras.optimizers.schedules.deserialize(short)(0))
    assert min(abs(rate - known) for known in (0.1, 0.02, 0.004, 0.0008)) < 1e-6


def test_own_head_is_used_and_checked():
    wide = keras.Sequential([keras.Input((8,)), keras.layers.Dense(7), keras.layers.Dense(4)])
    model = RotNet(tiny_backbone(), head=wide)
    assert model.head is wide and np.isfinite(losses_of(model, batch_of())["loss"])
    with pytest.raises(ValueError, match=r"`head` must give \(4,\).*gives \(3,\)"):
        RotNet(tiny_backbone(), keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]))


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match=r"square.*\(8, 12\)"):
        RotNet(tiny_backbone((8, 12, 3))).fit(images(8, (8, 12, 3)), batch_size=4, verbose=0)
