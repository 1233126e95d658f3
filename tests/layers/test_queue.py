"""The queue: first in, first out, in a circle."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers.queue import Queue


def rows(*numbers):
    return np.repeat(np.array(numbers, "float32")[:, None], 3, axis=1)


def test_holds_the_latest_rows_whatever_divides():
    queue = Queue(5, 3)
    number = 0
    for batch in (2, 2, 3, 4, 5, 1):
        queue.enqueue(rows(*range(number, number + batch)))
        number += batch
        held = set(queue.keys.numpy()[:, 0].tolist())
        assert set(range(max(0, number - 5), number)) <= held
        assert int(queue.pointer.numpy()) == number % 5
        assert bool(queue.full) == (number >= 5) and int(queue.count.numpy()) == min(number, 5)


def test_starts_with_random_unit_rows():
    keys = Queue(64, 16).keys.numpy()
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, atol=1e-5)
    assert abs((keys @ keys.T)[~np.eye(64, dtype=bool)].mean()) < 0.05


def test_is_not_trained_and_survives_saving(tmp_path):
    queue = Queue(4, 3)
    assert not queue.trainable_variables and len(queue.weights) == 3
    queue.enqueue(rows(1, 2))
    again = Queue.from_config(queue.get_config())
    again.set_weights(queue.get_weights())
    queue.enqueue(rows(3, 4, 5))
    again.enqueue(rows(3, 4, 5))
    np.testing.assert_array_equal(queue.keys.numpy(), again.keys.numpy())


def test_keeps_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    queue = Queue(4, 3)
    queue.enqueue(tf.cast(rows(1), "bfloat16"))
    assert queue.keys.dtype == "float32" and queue.keys.numpy()[0, 0] == 1


def test_writes_inside_a_graph_cost_the_rows_alone():
    """The graph scatters rows; it holds no operation that makes a new queue."""
    queue = Queue(1000, 3)

    @tf.function
    def step(new):
        queue.enqueue(new)

    step(rows(7, 8))
    np.testing.assert_array_equal(queue.keys.numpy()[:2], rows(7, 8))
    ops = step.get_concrete_function(rows(7, 8)).graph.get_operations()
    assert any(op.type == "ResourceScatterUpdate" for op in ops)
    assert all(1000 not in output.shape for op in ops for output in op.outputs)


def test_an_unused_queue_shrinks_and_is_saved_like_one_made_so():
    queue, small = Queue(50, 3), Queue(4, 3)
    queue.shrink(4)
    assert [w.shape for w in queue.weights] == [w.shape for w in small.weights]
    assert queue.get_config()["size"] == 4
    queue.enqueue(rows(1, 2, 3, 4))
    assert bool(queue.full)
    with pytest.raises(ValueError, match="never filled.*rows filled: 4"):
        queue.shrink(2)
    with pytest.raises(ValueError, match="from 1 to its own, 4. Received: size=5"):
        small.shrink(5)


def test_wrong_sizes():
    with pytest.raises(ValueError, match="size=0"):
        Queue(0, 3)
    with pytest.raises(ValueError, match="at most its size, 4 rows.*5"):
        Queue(4, 3).enqueue(rows(1, 2, 3, 4, 5))
