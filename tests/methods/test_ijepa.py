"""What I-JEPA hides, what it predicts, and how its teacher follows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from methods.test_mae import transformer
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import IJEPA, data
from keras_ssl.methods.ijepa import ijepa_predictor
from keras_ssl.ops import blocks, masking

PLACES = 4 + 2 * 3 + 16


def batch_of(n=6, seed=0):
    noise = np.random.default_rng(seed).random((n, PLACES)).astype("float32")
    pixels = images(n, (16, 16, 3), seed, "float32")
    return {"views": (ops.convert_to_tensor(pixels),), "mask_noise": ops.convert_to_tensor(noise)}


def ijepa(**options):
    """16 patches, three targets of up to 4 and a context of 4."""
    predictor = ijepa_predictor((4, 4), 8, 4, 4, 8, 1, 2)
    options = {"predictor": predictor, "num_targets": 3, **options}
    return IJEPA(transformer(), **options)


def places_of(model, batch):
    sizes = (model.num_targets, model._target_sizes, model._context_sizes)
    return blocks.multi_block(batch["mask_noise"], (4, 4), *sizes)


def loss_of(model, batch):
    return float(model.compute_losses(batch, training=False)["loss"])


def test_the_loss_is_hubers_error_against_normalised_tokens_of_the_whole_image():
    model, batch = ijepa(), batch_of()
    h = np.array(model.teacher_backbone.feature_map(batch["views"][0]), "float64").reshape(6, 16, 8)
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    targets, weights = (np.array(x) for x in places_of(model, batch)[1:])
    predicted = np.random.default_rng(0).normal(size=(6, 3, 4, 8)).astype("float32")
    model._predict = lambda *_: ops.reshape(predicted, (6, 12, 8))
    total = 0.0
    for i in range(6):
        asked = h[i][targets[i]]  # (T, M, D)
        e = np.abs(predicted[i] - asked)
        e = np.where(e < 1, e**2 / 2, e - 0.5).mean(-1)
        total += (e * weights[i]).sum() / weights[i].sum() / 6
    assert loss_of(model, batch) == pytest.approx(total, rel=1e-4)
    perfect = np.stack([h[i][targets[i]] for i in range(6)])
    model._predict = lambda *_: ops.convert_to_tensor(perfect.reshape(6, 12, 8), "float32")
    assert loss_of(model, batch) == pytest.approx(0, abs=1e-6)


def test_pixels_outside_the_context_have_no_way_to_the_predictions():
    model, batch = ijepa(), batch_of()
    places = places_of(model, batch)
    seen = np.zeros((6, 16, 1), "float32")
    np.put_along_axis(seen, np.array(places.context)[:, :, None], 1.0, axis=1)
    patches = masking.patchify(batch["views"][0], 4)
    first = np.array(model._predict(batch["views"][0], places, False))
    for hidden, same in ((1 - seen, True), (seen, False)):
        other = masking.unpatchify(patches * (1 - hidden) + 0.9 * hidden, (4, 4), 4)
        found = np.array(model._predict(other, places, False))
        assert np.allclose(found, first, atol=1e-6) is same


def test_blocks_are_predicted_each_by_itself():
    """Other targets, or none, change nothing; so their order does not count."""
    model, batch = ijepa(), batch_of()
    places = places_of(model, batch)
    found = np.array(model._predict(batch["views"][0], places, False)).reshape(6, 3, 4, 8)
    turned = places._replace(targets=places.targets[:, ::-1], weights=places.weights[:, ::-1])
    again = np.array(model._predict(batch["views"][0], turned, False)).reshape(6, 3, 4, 8)
    np.testing.assert_allclose(again[:, ::-1], found, atol=1e-5)


def test_places_that_fill_up_a_block_are_seen_by_no_token():
    predictor = ijepa_predictor((4, 4), 8, 5, 3, 8, 2, 2)
    rng = np.random.default_rng(0)
    context, at = rng.normal(size=(2, 5, 8)).astype("float32"), rng.integers(0, 16, (2, 5))
    asked, weights = np.array([[3, 4, 9], [0, 1, 2]]), np.array([[1, 1, 0], [1, 1, 0]], "float32")
    found = np.array(predictor([context, at, asked, weights]))
    asked[:, 2] = [15, 7]
    other = np.array(predictor([context, at, asked, weights]))
    np.testing.assert_allclose(other[:, :2], found[:, :2], atol=1e-6)
    asked[:, 1] = [14, 8]
    assert (
        np.abs(np.array(predictor([context, at, asked, weights]))[:, 0] - found[:, 0]).max() > 1e-5
    )


def test_no_gradient_reaches_the_teacher():
    model, batch = ijepa(), batch_of()
    values = [v.value for v in model.teacher_backbone.weights]
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch, training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))


def test_the_momentum_rises_in_a_line():
    """From 0.6 in the first of four steps by a tenth a step."""
    model = ijepa(momentum=0.6)
    model.compile(keras.optimizers.SGD(0.1))
    kernel = model.backbone.network.get_layer("patches").kernel
    teacher = model.teacher_backbone.network.get_layer("patches").kernel
    expected, students = np.array(teacher), []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            students.append(np.array(kernel))

    source = data.from_array(images(32, (16, 16, 3)))
    model.fit(source, batch_size=8, epochs=1, callbacks=[Keep()], verbose=0)
    for step, student in enumerate(students):
        m = 0.6 + 0.1 * step
        expected = m * expected + (1 - m) * student
    np.testing.assert_allclose(teacher, expected, atol=1e-6)
    assert np.abs(students[0] - students[-1]).max() > 1e-4


def test_the_deviation_shows_a_collapse():
    model, batch = ijepa(), batch_of()
    same = {**batch, "views": (ops.repeat(batch["views"][0][:1], 6, axis=0),)}
    deviation = lambda b: float(model.compute_losses(b, False)["target_deviation"])  # noqa: E731
    assert deviation(same) == pytest.approx(0, abs=1e-3) and deviation(batch) > 0.05


def test_defaults():
    model = keras_ssl.create("ijepa", (32, 32, 3), "small_vit")
    # 64 patches, of which two targets of 3 x 3 to 4 x 3 leave 40 in every image
    assert model.num_targets == 2 and model.momentum == 0.99
    assert model.context == 40 and model.predictor.output_shape == (None, 12, 96)
    made = model.default_views((32, 32))(ops.convert_to_tensor(images(1, (32, 32, 3))[0]), (0, 1))
    assert made["views"][0].shape == (32, 32, 3) and made["mask_noise"].shape == (4 + 2 * 2 + 64,)
    optimizer = model.paper_optimizer(1000, 2048)
    assert float(optimizer._learning_rate(100)) == pytest.approx(1e-3)
    assert float(optimizer.weight_decay(1000)) == pytest.approx(0.4)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\].*momentum=1.5"):
        ijepa(momentum=1.5)
    with pytest.raises(ValueError, match="`num_targets` >= 1.*num_targets=0"):
        ijepa(num_targets=0)
    with pytest.raises(ValueError, match="must leave patches.*num_targets=4, .*up to 4 of the 16"):
        ijepa(num_targets=4)
    with pytest.raises(ValueError, match="`backbone` must be a vision transformer"):
        IJEPA(tiny_backbone())
    with pytest.raises(ValueError, match=r"`predictor` must give \(4, 8\).*Received.*\(3, 8\)"):
        ijepa(predictor=ijepa_predictor((4, 4), 8, 4, 3, 8, 1, 2))
