"""SimSiam's alternations of section 5: targets of earlier weights, or averaged over views."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import head
from methods.test_simsiam import batch, gradient_of, outputs, unit
from toys import images, ready_batches, tiny_backbone

from keras_ssl import losses, optimizers
from recipes.simsiam_variants import AlternatingSimSiam


def simsiam(**kwargs):
    keras.utils.set_random_seed(1)
    return AlternatingSimSiam(tiny_backbone(), head("plain"), **kwargs)


def trained(model, data, **kwargs):
    """The model's trainable weights after steps of plain SGD."""
    model.compile(optimizers.SGD(0.1, momentum=0.0))
    model.fit(data, verbose=0, **kwargs)
    return [np.array(v) for v in model.trainable_variables]


def stored_targets(model, batches, steps):
    """The same by the paper's words: targets of `steps` batches first, then that many steps."""
    weights = model.trainable_variables
    for start in range(0, len(batches), steps):
        window = batches[start : start + steps]
        stored = [[unit(outputs(model, v)[0]) for v in b["views"]] for b in window]
        for b, targets in zip(window, stored):
            with tf.GradientTape() as tape:
                p1, p2 = (outputs(model, view)[1] for view in b["views"])
                loss = losses.negative_cosine(p1, targets[1])
                loss = (loss + losses.negative_cosine(p2, targets[0])) / 2
            for weight, gradient in zip(weights, tape.gradient(loss, [w.value for w in weights])):
                weight.assign_sub(0.1 * gradient)
    return [np.array(v) for v in weights]


def largest_difference(a, b):
    return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))


def test_targets_are_those_stored_at_the_start_of_a_window():
    """The copy of the networks is the same as computing k batches' targets beforehand."""
    data = ready_batches(80, 16)
    ours = trained(simsiam(target_steps=2), data)
    assert largest_difference(ours, stored_targets(simsiam(), list(data), 2)) < 1e-5
    assert largest_difference(ours, trained(simsiam(), data)) > 1e-4
    plain = trained(simsiam(target_steps=1), data)
    assert largest_difference(plain, stored_targets(simsiam(), list(data), 1)) < 1e-5


def test_first_step_of_a_window_is_the_plain_methods():
    model, b = simsiam(target_steps=3), batch()
    assert largest_difference(gradient_of(model, b), gradient_of(simsiam(), b)) < 1e-7


def test_the_copy_is_renewed_at_the_start_of_a_window():
    model = simsiam(target_steps=3)
    networks = [model.backbone.network, model.projector]
    copies = [model.target_backbone.network, model.target_projector]

    def weights(of):
        return [np.array(w) for n, o in zip(networks, of) for w in _moved(n, o)]

    seen, history = [weights(networks)], []

    def note(step, logs):
        seen.append(weights(networks))
        history.append(weights(copies))

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    trained(model, ready_batches(112, 16), callbacks=[callback])
    for step, copy in enumerate(history, start=1):
        assert largest_difference(copy, seen[step - step % 3]) == 0
    assert largest_difference(seen[3], seen[4]) > 1e-4
    trainable = {id(v) for v in model.trainable_variables}
    assert not trainable & {id(v) for network in copies for v in network.variables}


def _moved(network, of):
    """Variables of `of` that stand where `network` has trainable ones."""
    return [w for own, w in zip(network.weights, of.weights) if own.trainable]


@pytest.mark.parametrize("symmetric", [True, False])
def test_targets_average_over_visits(symmetric):
    """By the formula, with rows of other images untouched, and constants for the gradient."""
    kwargs = {"use_predictor": False, "symmetric": symmetric}
    model = simsiam(target_momentum=0.8, num_images=40, **kwargs)
    index = np.random.default_rng(0).permutation(40)[:16]
    b = {**batch(), "index": tf.constant(index)}
    z = [unit(outputs(model, view)[0]) for view in b["views"]]
    rows = np.array(model.bank.rows)
    etas = [unit(0.8 * rows[index] + 0.2 * own) for own in z]
    cosines = [np.mean((z[0] * etas[1]).sum(1)), np.mean((z[1] * etas[0]).sum(1))]
    expected = -np.mean(cosines) if symmetric else -cosines[0]
    found = float(model.compute_losses(b, training=False)["loss"])
    np.testing.assert_array_equal(model.bank.rows, rows)
    assert np.isfinite(found)
    gradients = gradient_of(model, b)
    plain = simsiam(**kwargs)
    with tf.GradientTape() as tape:
        z1, z2 = (outputs(plain, view)[0] for view in b["views"])
        loss = losses.negative_cosine(z1, etas[1])
        if symmetric:
            loss = (loss + losses.negative_cosine(z2, etas[0])) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    by_hand = tape.gradient(loss, [v.value for v in plain.trainable_variables])
    assert largest_difference(gradients, by_hand) < 1e-6
    seen = z[0] + z[1] if symmetric else z[1]
    expected_rows = rows.copy()
    expected_rows[index] = unit(0.8 * rows[index] + 0.2 * unit(seen))
    np.testing.assert_allclose(model.bank.rows, expected_rows, atol=1e-6)


def indexed_batches():
    """48 images with their places, a third in a batch."""
    places = tf.data.Dataset.range(48).batch(16, drop_remainder=True)
    return tf.data.Dataset.zip(ready_batches(48, 16), places).map(lambda b, i: {**b, "index": i})


def test_every_image_has_a_target():
    """Each row moves in an epoch of plain images, of which there must be `num_images`."""
    model = simsiam(use_predictor=False, target_momentum=0.8, num_images=48)
    assert model.batch_keys == ("views", "index") and simsiam().batch_keys == ("views",)
    before = np.array(model.bank.rows)
    model.fit(images(48), batch_size=16, verbose=0)
    assert np.abs(np.array(model.bank.rows) - before).max(1).min() > 1e-3
    with pytest.raises(ValueError, match="num_images=48 and 32 images"):
        model.fit(images(32), batch_size=16, verbose=0)


@pytest.mark.parametrize(
    "kwargs",
    [{"target_steps": 4}, {"target_momentum": 0.8, "num_images": 48, "use_predictor": False}],
)
def test_variants_are_saved_with_their_targets(kwargs, tmp_path):
    model = simsiam(**kwargs)
    trained(model, indexed_batches())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert all(getattr(again, name) == value for name, value in kwargs.items())
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"target_steps": 0}, "`target_steps` must be a whole number >= 1.*target_steps=0"),
        ({"target_steps": 1.5}, "`target_steps` must be a whole number"),
        ({"target_momentum": 1.0, "num_images": 4}, "`target_momentum` in .0, 1.*=1.0"),
        ({"target_steps": 2, "target_momentum": 0.8, "num_images": 4}, "different ways"),
        ({"target_steps": 2, "stop_gradient": False}, "`stop_gradient` must be True"),
        ({"target_momentum": 0.8}, "`num_images` must be given.*num_images=None"),
        ({"num_images": 4}, "`num_images` must be given with a `target_momentum` > 0.*=4"),
    ],
)
def test_senseless_targets_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        simsiam(**kwargs)
