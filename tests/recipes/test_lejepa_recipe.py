"""The preset `eb_jepa`: loss and optimizer of that repository."""

import numpy as np
import pytest

from keras_ssl import data, optimizers
from recipes import _runner, lejepa


def test_eb_jepa_is_its_loss_and_optimizer():
    config = _runner.configure(lejepa.RECIPE, "eb_jepa")
    assert (config.backbone, config.epochs, config.batch_size) == ("resnet18", 300, 256)
    config = _runner.configure(lejepa.RECIPE, "eb_jepa", ["epochs=20"], smoke=True)
    source, _ = data.splits(config.data, image_size=config.image_size)
    model = lejepa.RECIPE.make_model(config, source.size)
    assert model.projector.output_shape == (None, 128)
    optimizer = model.optimizer
    assert isinstance(optimizer, optimizers.LARC) and optimizer.clip and optimizer.exclude_1d
    assert (optimizer.trust_coefficient, optimizer.weight_decay) == (0.02, 1e-4)
    assert optimizer._learning_rate.peak == 0.3
    history = model.fit(source.subset(range(16)), batch_size=8, epochs=1, verbose=0).history
    parts = 4 * history["invariance"][0] + 10 * history["sigreg"][0]
    assert history["loss"][0] == pytest.approx(parts, rel=1e-4) and np.isfinite(parts)


def test_other_presets_have_the_methods_optimizer():
    config = _runner.configure(lejepa.RECIPE, "cifar10_small", smoke=True)
    assert lejepa.optimizer(config, None, 2) is None
