"""Messages about images, on their way through the errors of a graph."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.data import errors


def test_the_message_comes_back_whole_and_unmarked():
    floats = np.full((4, 8, 8, 3), 0.5, np.float32)
    floats[2, 0, 0] = -1.5
    source = data.from_dataset(tf.data.Dataset.from_tensor_slices(floats))
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        list(source.ordered())
    message = data.unusable_images(raised.value)
    assert message.startswith("Float images must be finite")
    assert message.endswith("smallest and largest value: -1.5 0.5")


def test_any_wording_of_an_error_in_python_is_found():
    @errors.raises_in_graph
    def fail(value):
        raise ValueError(f"café [{value}]\nin two lines")

    dataset = tf.data.Dataset.range(7, 8).map(lambda x: tf.numpy_function(fail, [x], tf.int64))
    with pytest.raises(tf.errors.OpError) as raised:
        list(dataset)
    assert data.unusable_images(raised.value) == "café [7]\nin two lines"


def test_other_errors_say_nothing_about_images():
    assert data.unusable_images(ValueError("a [0] b")) is None
    assert data.unusable_images(tf.errors.OutOfRangeError(None, None, "end")) is None
