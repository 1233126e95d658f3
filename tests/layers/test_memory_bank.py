"""The memory bank: rows follow their images, others stay; draws are functions of the step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers.memory_bank import MemoryBank


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(n, width=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype("float32")


def test_starts_with_random_unit_rows():
    rows = MemoryBank(64, 16).rows.numpy()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert abs((rows @ rows.T)[~np.eye(64, dtype=bool)].mean()) < 0.05


def test_update_is_the_normalised_mix_and_leaves_other_rows_bit_for_bit():
    bank, v, index = MemoryBank(10, 3, momentum=0.7), 5 * embeddings(4), np.array([7, 0, 3, 9])
    before = bank.rows.numpy()
    np.testing.assert_array_equal(bank.look_up(index), before[index])
    bank.update(index, v)
    after = bank.rows.numpy()
    np.testing.assert_allclose(after[index], unit(0.7 * before[index] + 0.3 * unit(v)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-6)
    others = np.setdiff1d(np.arange(10), index)
    np.testing.assert_array_equal(after[others], before[others])


def test_a_step_reads_and_writes_the_rows_of_its_batch_alone():
    """A read of the whole variable would be a copy, in proportion to the bank's size."""
    bank = MemoryBank(10, 3)

    @tf.function
    def step(index, v):
        bank.update(index, v)
        return bank.look_up(index)

    graph = step.get_concrete_function(np.arange(4), embeddings(4)).graph
    kinds = [op.type for op in graph.get_operations() if "Resource" in op.type]
    assert kinds == ["ResourceGather", "ResourceScatterUpdate", "ResourceGather"]
    assert "ReadVariableOp" not in {op.type for op in graph.get_operations()}


def test_without_momentum_a_row_is_the_latest_embedding():
    bank, v = MemoryBank(10, 3, momentum=0.0), embeddings(4)
    bank.update(np.arange(4), v)
    np.testing.assert_allclose(bank.rows.numpy()[:4], unit(v), atol=1e-6)


def test_of_an_image_that_comes_twice_the_last_embedding_counts():
    v, index = embeddings(5), np.array([2, 4, 2, 0, 4])
    banks = [MemoryBank(6, 3) for _ in range(2)]
    banks[1].set_weights(banks[0].get_weights())
    banks[0].update(index, v)
    banks[1].update(index[2:], v[2:])
    np.testing.assert_array_equal(banks[0].rows.numpy(), banks[1].rows.numpy())


def test_the_first_constant_is_kept():
    bank = MemoryBank(4, 3)
    assert (
        float(bank.fix_partition(5.0, keep=False)) == 5.0 and float(bank.partition.numpy()) == -1.0
    )
    assert float(bank.fix_partition(7.0)) == 7.0 == float(bank.partition.numpy())
    assert float(bank.fix_partition(9.0)) == 7.0 == float(bank.fix_partition(9.0, keep=False))
    again = MemoryBank.from_config(bank.get_config())
    again.set_weights(bank.get_weights())
    assert float(again.fix_partition(9.0)) == 7.0


def test_is_not_trained_and_takes_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    bank = MemoryBank(4, 3)
    bank.update(np.array([1]), tf.constant([[0.0, 2.0, 0.0]], "bfloat16"))
    assert not bank.trainable_variables and bank.rows.dtype == "float32"
    assert np.linalg.norm(bank.rows.numpy()[1]) == pytest.approx(1.0, abs=1e-6)


def test_no_step_copies_the_bank():
    bank = MemoryBank(1000, 3)

    @tf.function
    def step(index, v):
        bank.update(index, v)
        return bank.look_up(index)

    index = tf.constant([7, 8], tf.int64)
    before = bank.rows.numpy()
    after = step(index, tf.ones((2, 3)))
    np.testing.assert_allclose(after, unit(0.5 * before[7:9] + 0.5 / 3**0.5), atol=1e-6)
    ops = step.get_concrete_function(index, tf.ones((2, 3))).graph.get_operations()
    assert any(op.type == "ResourceScatterUpdate" for op in ops)
    large = {op for op in ops for output in op.outputs if 1000 in output.shape}
    assert all(op.type == "ReadVariableOp" for op in large)
    assert not any(output.consumers() for op in large for output in op.outputs)


@pytest.mark.parametrize(
    "arguments, message",
    [((0, 3), "size=0"), ((4, 0), "width=0"), ((4, 3, 1.0), "momentum=1.0")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MemoryBank(*arguments)
