"""Methods learn on real images: a few epochs beat the untrained encoder by a margin."""

import keras
import numpy as np
import pytest

import keras_ssl


@pytest.mark.slow
def test_simclr_learns_on_photographs(real_data):
    source, test = keras_ssl.data.splits("cifar10", data_dir=real_data / "tfds")
    source = source.subset(np.arange(5000))
    bank, queries = source.arrays((32, 32)), test.arrays((32, 32), limit=2000)
    model = keras_ssl.create("simclr", (32, 32, 3), "small_conv", temperature=0.2)
    before = keras_ssl.evaluation.knn_accuracy(model.encode, bank, queries, k=20)
    schedule = keras_ssl.optimizers.WarmupCosine(3e-3, total_steps=5 * 39, warmup_steps=20)
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(source, batch_size=128, epochs=5, verbose=0)
    after = keras_ssl.evaluation.knn_accuracy(model.encode, bank, queries, k=20)
    assert after > before + 0.05, f"random {before:.3f}, trained {after:.3f}"
