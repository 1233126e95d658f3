"""W-MSE: whitened slices, the distance on them, and what they leave unchanged."""

import keras
import numpy as np
import pytest
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import losses
from keras_ssl.ops import whiten


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def test_whitened_slices_have_mean_0_and_covariance_1():
    x = 3 * draws(2, 40, 5) @ draws(5, 5, seed=1) + 7
    for y in np.array(whiten(x)):
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(np.cov(y.T), np.eye(5), atol=1e-4)


def test_lower_triangular_mixing_changes_nothing_and_general_mixing_does():
    x = draws(30, 4)
    lower = np.tril(draws(4, 4, seed=2)) * (1 - np.eye(4)) + np.diag([0.5, 1, 2, 3])
    np.testing.assert_allclose(whiten(x @ lower.T + 5), whiten(x), atol=1e-4)
    assert np.abs(np.array(whiten(x @ draws(4, 4, seed=3))) - np.array(whiten(x))).max() > 0.1


def by_hand(views, size):
    """The loss from NumPy's inverse of the Cholesky factor, slice by slice."""
    units = []
    for h in views:
        parts = []
        for part in h.reshape(-1, size, h.shape[1]).astype("float64"):
            centred = part - part.mean(0)
            factor = np.linalg.cholesky(np.cov(part.T))
            parts.append(centred @ np.linalg.inv(factor).T)
        z = np.concatenate(parts)
        units.append(z / np.linalg.norm(z, axis=1, keepdims=True))
    terms = [((a - b) ** 2).sum(1).mean() for i, a in enumerate(units) for b in units[i + 1 :]]
    return np.mean(terms)


@pytest.mark.parametrize("count", [2, 3])
def test_loss_by_hand_and_its_bounds(count):
    views = [draws(24, 4, seed=i) for i in range(count)]
    value = float(losses.whitened_mse(views, 12))
    assert abs(value - by_hand(views, 12)) < 1e-5 and 0 < value < 4
    assert abs(float(losses.whitened_mse(views[::-1], 12)) - value) < 1e-6
    assert abs(float(losses.whitened_mse([views[0] + 3, *views[1:]], 12)) - value) < 1e-4
    assert abs(float(losses.whitened_mse([views[0]] * count, 12))) < 1e-6
    many = [draws(4096, 4, seed=i) for i in range(2)]
    assert abs(float(losses.whitened_mse(many, 512)) - 2) < 0.1


def test_permutations_keep_pairs_and_are_averaged():
    views = [draws(24, 4, seed=i) for i in range(2)]
    orders = np.stack([np.random.default_rng(i).permutation(24) for i in range(3)])
    singles = [by_hand([v[order] for v in views], 12) for order in orders]
    assert abs(float(losses.whitened_mse(views, 12, ops.array(orders))) - np.mean(singles)) < 1e-5
    assert np.ptp(singles) > 1e-3


def test_gradient_by_differences():
    import tensorflow as tf

    h = [tf.Variable(draws(10, 3, seed=i)) for i in range(2)]
    with tf.GradientTape() as tape:
        loss = losses.whitened_mse(h, 10)
    gradients = tape.gradient(loss, h)
    for i, gradient in enumerate(gradients):
        direction, slope = draws(10, 3, seed=5), 0.0
        for sign in (1, -1):
            moved = [v.numpy() for v in h]
            moved[i] = moved[i] + sign * 1e-3 * direction
            slope += sign * by_hand(moved, 10) / 2e-3
        found = float(np.sum(tf.convert_to_tensor(gradient).numpy() * direction))
        assert abs(slope - found) < 1e-3 and abs(slope) > 0.01


def small(**options):
    projector = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    return keras_ssl.WMSE(tiny_backbone(), projector, **options)


def test_default_network_and_slice():
    model = keras_ssl.create("wmse", (32, 32, 3), "small_conv")
    assert model.projector.output_shape == (None, 64) and model.slice_size == 128
    assert model.projector.count_params() == 256 * 1024 + 1024 + 4 * 1024 + 1024 * 64 + 64
    rates = keras_ssl.optimizers.WarmupDrops(3e-3, (9500, 9750), 0.2, 500)
    found = [float(rates(t)) for t in (0, 250, 500, 9499, 9500, 9750)]
    np.testing.assert_allclose(found, [0, 1.5e-3, 3e-3, 3e-3, 6e-4, 1.2e-4], rtol=1e-5)


def test_images_meet_others_at_each_step():
    model = small()
    model.compile(keras.optimizers.SGD(0.1))
    first = np.array(model._orders(16))
    assert sorted(first[0]) == list(range(16))
    model.batches_seen.assign(1)
    assert (np.array(model._orders(16)) != first).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slice_size": 4}, "`slice_size` must exceed the width of the embeddings, 4"),
        ({"iterations": 0}, "`iterations` must be >= 1"),
        ({"num_views": 1}, "`num_views` >= 2"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_a_batch_that_slices_do_not_divide_is_explained():
    with pytest.raises(ValueError, match="slice_size=12, 4 wide embeddings of a batch of 16"):
        small(slice_size=12).fit(images(32), batch_size=16, verbose=0)
    with pytest.raises(ValueError, match="more rows than columns"):
        whiten(draws(4, 4))


def test_four_views():
    model = small(num_views=4)
    history = model.fit(images(32), batch_size=16, epochs=1, verbose=0)
    assert len(model.default_views((8, 8)).pipelines) == 1
    assert 0 < history.history["loss"][0] < 4
