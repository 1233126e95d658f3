"""Training steps against the authors' order of operations, written out line by line.

A test gives `agree` a `by_hand` that does what the authors' training loop does, in plain
TensorFlow: loops over views, images and patches in the place of our stacked ones, SGD by hand, then
what follows the weights. Networks are the method's own, all passes through them are those of the
authors; all weights, teachers, memories and centres must agree after the steps, and so must the
losses.
"""

import math

import keras
import numpy as np
import tensorflow as tf
from toys import images

STEPS, BATCH, RATE, SHAPE = 3, 8, 0.1, (16, 16, 3)


def noises(*shape):
    return np.random.default_rng(0).random((STEPS, BATCH, *shape)).astype("float32")


def batches(sizes, **others):
    """Ready batches of one epoch, a view of each size; `others` have a row a step."""
    shapes = [(STEPS * BATCH, (size, size, 3), v, "float32") for v, size in enumerate(sizes)]
    pixels = tuple(images(*s).reshape(STEPS, BATCH, *s[1]) for s in shapes)
    return tf.data.Dataset.from_tensor_slices({"views": pixels, **others})


def agree(make, data, by_hand):
    """Losses and all weights after the steps of `fit`, and after those by hand."""
    keras.utils.set_random_seed(1)
    model = make()
    hand = make()
    for ours, theirs in zip(model.weights, hand.weights):
        theirs.assign(ours)
    first = [np.array(weight) for weight in model.weights]
    seen = []

    class Losses(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, step, logs=None):
            seen.append(logs["loss"])

    model.compile(keras.optimizers.SGD(RATE))
    model.fit(data, callbacks=[Losses()], verbose=0)
    for clock in ("run_seed", "total_steps", "steps_per_epoch"):
        getattr(hand, clock).assign(getattr(model, clock))
    expected = []
    for step, batch in enumerate(data):
        expected.append(float(by_hand(hand, batch, step)))
        hand.batches_seen.assign(step + 1)
    np.testing.assert_allclose(seen, expected, rtol=1e-4)
    moved = 0
    for ours, theirs, before in zip(model.weights, hand.weights, first):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=ours.path)
        moved += ours.trainable and np.abs(np.array(ours) - before).max() > 1e-4
    assert moved > 0.5 * len(model.trainable_weights)  # some, as biases of keys, have no gradient


def descend(model, tape, loss):
    weights = model.trainable_variables
    for weight, gradient in zip(weights, tape.gradient(loss, [w.value for w in weights])):
        if gradient is not None:
            weight.assign(weight - RATE * gradient)


def follow(teacher, student, decay):
    for t, s in zip(teacher, student):
        t.assign(decay * t + (1 - decay) * s)


def cosine(step, first):
    """The authors' schedule of the teacher's momentum, from `first` to 1 over the steps."""
    return 1 - (1 - first) * (math.cos(math.pi * step / STEPS) + 1) / 2


def unit(x):
    return x / tf.norm(x, axis=-1, keepdims=True)


def cross_entropy(targets, scores, temperature):
    return -tf.reduce_sum(targets * tf.nn.log_softmax(scores / temperature), axis=-1)
