"""DCL: the loss on the model's own projections, DCLW, defaults of the paper and public code."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import images, ready_batches, tiny_backbone

import keras_ssl
from keras_ssl import losses, optimizers, views


def dcl(**kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ssl.DCL(tiny_backbone(), **kwargs)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def batch():
    return next(iter(ready_batches(16, 16)))


def projections(model, b):
    z = model.projector(model.backbone(tf.concat(b["views"], 0), training=True), training=True)
    return np.split(np.array(z), 2)


def same(value, expected):
    np.testing.assert_allclose(float(value), float(expected), rtol=1e-5)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_loss_is_that_of_both_views_as_one_batch(sigma):
    model, b = dcl(temperature=0.2, sigma=sigma), batch()
    z1, z2 = projections(model, b)
    loss = model.compute_losses(b, training=True)["loss"]
    same(loss, losses.decoupled_contrastive(z1, z2, 0.2, sigma))
    other = losses.decoupled_contrastive(z1, z2, 0.2, 0.5 if sigma is None else None)
    assert abs(float(loss) - float(other)) > 1e-5


def test_loss_does_not_depend_on_the_order_of_views_or_images():
    model, b = dcl(sigma=0.5), batch()
    order = np.random.default_rng(0).permutation(16)
    permuted = tuple(tf.gather(view, order) for view in reversed(b["views"]))
    same(
        model.compute_losses({"views": permuted}, training=True)["loss"],
        model.compute_losses(b, training=True)["loss"],
    )


def test_it_is_below_simclr_on_the_same_projections():
    """SimCLR's terms are the softplus of these, which is larger."""
    model, b = dcl(temperature=0.2), batch()
    loss = float(model.compute_losses(b, training=True)["loss"])
    assert loss < float(losses.nt_xent(*projections(model, b), 0.2))


def test_projectors_and_optimizers_of_both_sizes():
    small, large = dcl(), keras_ssl.DCL(tiny_backbone((96, 96, 3)))
    for model, shapes in ((small, [(8, 512), (512, 128)]), (large, [(8, 8), (8, 128)])):
        kernels = [tuple(w.shape) for w in model.projector.weights if w.path.endswith("kernel")]
        assert kernels == shapes and model.temperature == 0.1 and model.sigma is None
    adam, sgd = small.paper_optimizer(100, 256), large.paper_optimizer(100, 512)
    assert isinstance(adam, optimizers.Adam) and adam.weight_decay == 1e-6
    assert float(adam.learning_rate) == pytest.approx(1e-3)
    rates = [float(sgd._learning_rate(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [0.06, 0.03, 0.0], atol=1e-7)


def test_views_of_both_sizes():
    model = dcl()
    small, large = (model.default_views((size, size)) for size in (32, 96))
    assert keras.saving.serialize_keras_object(small) == keras.saving.serialize_keras_object(
        views.moco((32, 32))
    )
    assert [type(op).__name__ for op in large.first.ops][-1] == "GaussianBlur"


@pytest.mark.parametrize(
    "arguments", [{"temperature": 0.0}, {"temperature": -1.0}, {"sigma": 0.0}, {"sigma": -0.5}]
)
def test_wrong_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        dcl(**arguments)


def test_embeddings_are_projections():
    model, pixels = dcl(), images(4)
    expected = model.projector(model.backbone(pixels, training=False), training=False)
    np.testing.assert_allclose(model.embed(pixels), expected, atol=1e-6)
