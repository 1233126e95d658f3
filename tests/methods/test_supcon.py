"""SupCon: labels reach the loss with their images, the authors' optimizer, data without labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract.cases import COUNT
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import data, losses


def supcon(**kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.SupCon(tiny_backbone(), **kwargs)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch(labels):
    views = next(iter(ready_batches(16, 16)))["views"]
    return {"views": views, "label": tf.constant(labels, "int64")}


def loss(model, b):
    return float(model.compute_losses(b, training=True)["loss"])


LABELS = np.random.default_rng(0).integers(0, 4, 16)


def test_both_views_carry_the_image_s_label():
    """The equation, with the views named one by one and the weights' own projections."""
    model, b = supcon(temperature=0.5), batch(LABELS)
    z = model.projector(model.backbone(tf.concat(b["views"], 0), training=True), training=True)
    z = z.numpy().astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity, terms = np.exp(z @ z.T / 0.5), []
    for i in range(32):
        others = [j for j in range(32) if j != i]
        positives = [j for j in others if LABELS[j % 16] == LABELS[i % 16]]
        shares = similarity[i, positives] / similarity[i, others].sum()
        terms.append(-np.log(shares).mean())
    assert loss(model, b) == pytest.approx(np.mean(terms), rel=1e-5)


def test_without_equal_labels_it_is_simclr_s_loss():
    model, b = supcon(), batch(np.arange(16) * 3)
    z = model.projector(model.backbone(tf.concat(b["views"], 0), training=True), training=True)
    expected = float(losses.nt_xent(z[:16], z[16:], 0.1))
    assert loss(model, b) == pytest.approx(expected, rel=1e-5)
    assert abs(loss(model, batch(LABELS)) - expected) > 1e-3


def test_loss_does_not_depend_on_the_order_of_images_or_the_names_of_labels():
    model, b = supcon(), batch(LABELS)
    expected, order = loss(model, b), np.random.default_rng(1).permutation(16)
    permuted = {
        "views": tuple(tf.gather(view, order) for view in reversed(b["views"])),
        "label": tf.gather(b["label"], order),
    }
    assert loss(model, permuted) == pytest.approx(expected, rel=1e-5)
    assert loss(model, batch(np.array([9, -1, 3, 100])[LABELS])) == pytest.approx(
        expected, rel=1e-5
    )
    assert abs(loss(model, {**b, "label": permuted["label"]}) - expected) > 1e-4


def test_labels_come_with_the_stream_in_every_form():
    """An array with labels, pairs of a dataset and a source with labels train alike."""
    pixels, labels = images(COUNT), np.arange(COUNT) % 4
    forms = [
        (pixels, labels),
        (tf.data.Dataset.from_tensor_slices((pixels, labels)), None),
        (data.from_array(pixels, labels), None),
    ]
    found = []
    for x, y in forms:
        history = supcon().fit(x, y, batch_size=16, epochs=1, verbose=0).history
        found.append(history["loss"][0])
    assert found[0] == found[2] and np.isfinite(found).all()
    other = supcon().fit(pixels, labels[::-1] // 2, batch_size=16, verbose=0).history["loss"][0]
    assert other != found[0]


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match="trains with labels.*sub-folder"):
        supcon().fit(images(COUNT), batch_size=16, verbose=0)
    with pytest.raises(ValueError, match=r"SupCon .*missing: \['label'\]"):
        supcon().fit(ready_batches(), verbose=0)


def test_default_optimizer_makes_the_steps_of_the_authors_loss():
    """One step from one start: theirs on their loss, which is 0.1 / 0.07 times this one."""
    model = supcon()
    model.steps_per_epoch.assign(1)
    sgd = model.paper_optimizer(1000, 1024)
    factor = 0.1 / 0.07
    rates = [float(sgd._learning_rate(step)) for step in (0, 10, 505, 1000)]
    np.testing.assert_allclose(rates, 0.5 * factor * np.array([0, 1, 0.5005, 0.001]), rtol=1e-5)
    assert sgd.weight_decay * factor == pytest.approx(1e-4) and sgd.momentum == 0.9
    gradient, weight = 0.3, 2.0
    ours = rates[1] * (gradient + sgd.weight_decay * weight)
    assert ours == pytest.approx(0.5 * (factor * gradient + 1e-4 * weight))


def test_head_and_views():
    model = supcon()
    shapes = [tuple(w.shape) for w in model.projector.weights]
    assert shapes == [(8, 8), (8,), (8, 128), (128,)]
    pipeline = model.default_views((32, 32)).first
    names = [type(op).__name__ for op in pipeline.ops]
    assert names == ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale"]
    assert tuple(pipeline.ops[0].scale) == (0.2, 1.0)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_wrong_temperature(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature}"):
        supcon(temperature=temperature)


def test_embeddings_have_unit_length():
    z = supcon().embed(images(4))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-5)


def test_images_of_a_class_come_together():
    """Cosines within a class exceed those between classes by more than before training."""
    keras.utils.set_random_seed(1)
    pixels, labels = images(COUNT), np.arange(COUNT) % 2
    pixels[labels == 1, :, :, 0] //= 2  # the classes differ in brightness alone, which is jittered
    model = keras_ssl.SupCon(tiny_backbone(), temperature=0.2)
    model.compile(keras.optimizers.Adam(1e-2))

    def margin():
        z = np.array(model.embed(pixels))
        similarity, alike = z @ z.T, labels[:, None] == labels[None]
        return similarity[alike].mean() - similarity[~alike].mean()

    before = margin()
    model.fit(pixels, labels, batch_size=16, epochs=15, verbose=0)
    after = margin()
    assert after > before + 0.3, (before, after)
