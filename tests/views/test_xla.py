"""What XLA compiles gives what TensorFlow's kernels give, to rounding."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import views
from keras_ssl.views import image_ops, xla


def image_of(height=9, width=7, channels=3, seed=0):
    """Random colours, and pixels at which hue or saturation are not defined."""
    image = np.random.default_rng(seed).random((height, width, channels)).astype(np.float32)
    image[0, :3] = [[0] * channels, [1] * channels, [0.5] * channels]
    return tf.constant(image)


def both(monkeypatch, function):
    """Results with XLA and with TensorFlow's kernels."""
    assert xla.available()
    compiled = function()
    monkeypatch.setattr(xla, "available", lambda: False)
    return compiled, function()


@pytest.mark.parametrize("form", image_ops.JITTER_FORMS)
def test_jitter_is_that_of_the_kernels(monkeypatch, form):
    image = image_of()

    def jitter():
        seeds = [tf.constant([number, 3]) for number in range(40)]
        strengths = (0.8, 0.8, 0.8, 0.2)
        return [image_ops.random_color_jitter(image, s, *strengths, form).numpy() for s in seeds]

    compiled, kernels = both(monkeypatch, jitter)
    np.testing.assert_allclose(compiled, kernels, atol=2e-5)
    assert np.min(compiled) >= 0 and np.max(compiled) <= 1


def test_only_some_operations_are_switched_on(monkeypatch):
    image = image_of()

    def jitter():
        ops = [views.ColorJitter(0.4, 0, 0, 0.3, p=1.0), views.ColorJitter(0, 0.5, 0, 0, p=1.0)]
        return [op(image, tf.constant([4, 3])).numpy() for op in ops]

    compiled, kernels = both(monkeypatch, jitter)
    np.testing.assert_allclose(compiled, kernels, atol=1e-5)


@pytest.mark.parametrize("padding", image_ops.PADDINGS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blur_is_that_of_the_kernels(monkeypatch, padding, channels):
    image = image_of(channels=channels)
    compiled, kernels = both(
        monkeypatch, lambda: image_ops.gaussian_blur(image, tf.constant(1.4), 9, padding).numpy()
    )
    np.testing.assert_allclose(compiled, kernels, atol=1e-6)


def test_images_of_unknown_shape_go_through_the_kernels():
    seen = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3))])
    def view(image):
        seen.append(xla.usable(image))
        image = views.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0)(image, tf.constant([1, 2]))
        return views.GaussianBlur(1.0, kernel_size=5)(image, tf.constant([1, 2]))

    image = image_of()
    expected = views.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0)(image, tf.constant([1, 2]))
    expected = views.GaussianBlur(1.0, kernel_size=5)(expected, tf.constant([1, 2]))
    np.testing.assert_allclose(view(image), expected, atol=1e-5)
    assert seen == [False]


def test_without_xla_the_kernels_are_used(monkeypatch):
    def broken(function):
        def call(*args):
            raise tf.errors.UnimplementedError(None, None, "no compiler")

        return call

    monkeypatch.setattr(xla, "_compiled", broken)
    xla.available.cache_clear()
    try:
        assert not xla.available() and not xla.usable(image_of())
    finally:
        xla.available.cache_clear()


def test_one_compiled_form_serves_all_pipelines_of_a_size():
    xla._ordered.cache_clear()
    image = image_of(6, 6)
    for strength in (0.2, 0.7):
        op = views.ColorJitter(strength, strength, strength, 0.1, p=1.0)
        op(image, tf.constant([1, 2]))
    assert xla._ordered.cache_info().currsize == 1
    views.ColorJitter(0.2, 0.2, 0.2, 0.1, p=1.0, form="torchvision")(image, tf.constant([1, 2]))
    assert xla._ordered.cache_info().currsize == 2
