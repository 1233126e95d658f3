"""Five lines on real images that no default was chosen on: better than the untrained encoder."""

import numpy as np
import pytest

import keras_ssl
from benchmarks.five_lines import gain

# Points of kNN, below the figures in benchmarks/RESULTS.md by what another slice may cost.
LEAST = {"simclr": 0.08, "moco": 0.04, "swav": 0.04}


@pytest.mark.slow
@pytest.mark.parametrize("method", LEAST)
def test_five_lines_learn_on_photographs(method, real_data):
    source, test = keras_ssl.data.splits("cifar10", data_dir=real_data / "tfds")
    images = source.subset(np.arange(40_000, 45_000)).arrays((32, 32))
    held_out = test.arrays((32, 32), limit=4000)
    before, after, _ = gain(method, keras_ssl.data.from_array(*images), held_out, seed=7)
    assert after > before + LEAST[method], f"random {before:.3f}, trained {after:.3f}"
