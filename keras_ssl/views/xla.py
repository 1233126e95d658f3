"""Loops over the pixels of one image, compiled by XLA: several operations in one kernel.

TensorFlow's kernels for hue and saturation branch at every pixel, and each operation writes its
image to memory; compiled, a jitter or blur takes a third to a quarter of the time. It costs a few
tenths of a second for each size of image, once a process. Where XLA is missing, callers use
TensorFlow's kernels; results differ by rounding alone.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf


def usable(image: tf.Tensor) -> bool:
    """Whether an image can be worked on here: of known shape, and XLA is there."""
    return image.shape.is_fully_defined() and available()


@functools.cache
def available() -> bool:
    """Whether XLA compiles for the CPU of this machine; tried once."""
    # Asked while a pipeline is traced, so the trial has to leave that graph.
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            return float(_compiled(lambda x: x + 1.0)(tf.zeros(()))) == 1.0
        except (tf.errors.OpError, ValueError, RuntimeError):
            return False


def in_order(
    image: tf.Tensor, steps: Sequence[Callable], amounts: tf.Tensor, order: tf.Tensor
) -> tf.Tensor:
    """`steps[k](image, amounts[k])` for each k of `order`, one after the other.

    Args:
        image: float32 of known shape, which every step keeps.
        steps: functions of image and scalar, of a module: they are kept with their compiled form.
        amounts: float32 `(len(steps),)`.
        order: int32 `(len(steps),)`, a permutation.
    """
    with tf.device("CPU:0"):
        return _ordered(tuple(steps), tuple(image.shape))(image, amounts, order)


@functools.cache
def _ordered(steps: tuple[Callable, ...], shape: tuple[int, ...]) -> Callable:
    """The compiled form of `in_order` for images of one shape."""

    def run(image: tf.Tensor, amounts: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        # A loop, not one switch after the other: every step is compiled once.
        def turn(slot: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            branches = [
                lambda step=step, k=k: tf.ensure_shape(step(image, amounts[k]), shape)
                for k, step in enumerate(steps)
            ]
            return slot + 1, tf.switch_case(order[slot], branches)

        return tf.while_loop(lambda slot, image: slot < len(steps), turn, (0, image))[1]

    return _compiled(run)


def correlate(image: tf.Tensor, kernel: tf.Tensor, axis: int) -> tf.Tensor:
    """`sum_k kernel[k] * image[i + k]` along an axis, where all of the kernel lies in the image.

    Args:
        image: float32 `(H, W, C)` of known shape.
        kernel: float32 `(K,)`, K known.
        axis: 0 or 1; that side of the result is K - 1 pixels shorter.
    """
    with tf.device("CPU:0"):
        return _correlation(tuple(image.shape), kernel.shape[0], axis)(image, kernel)


@functools.cache
def _correlation(shape: tuple[int, int, int], taps: int, axis: int) -> Callable:
    """The compiled form of `correlate` for images of one shape."""
    height, width, channels = shape
    result = [height, width, channels]
    result[axis] -= taps - 1

    def run(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # Rows of pixels as plain numbers: the next pixel is `channels` numbers away, and the inner
        # loop, over all numbers of a row, is a vector operation.
        rows = tf.reshape(image, (height, width * channels))
        if axis == 0:
            parts = [rows[k : k + result[0]] for k in range(taps)]
        else:
            length = result[1] * channels
            parts = [rows[:, k * channels : k * channels + length] for k in range(taps)]
        total = tf.add_n([kernel[k] * part for k, part in enumerate(parts)])
        return tf.reshape(total, result)

    return _compiled(run)


def _compiled(function: Callable) -> Callable:
    return tf.function(function, jit_compile=True, autograph=False)
