"""FeatureDistillation's recipe asks for a teacher, and takes it from a file."""

import dataclasses

import pytest
from contract.cases import frozen

import keras_ssl
from recipes import _runner
from recipes.feature_distillation import RECIPE


def test_the_teacher_is_asked_for_and_read(tmp_path):
    config = _runner.configure(RECIPE, "cifar10_small")
    with pytest.raises(ValueError, match="`teacher` must be given: --set=teacher=PATH"):
        RECIPE.make_model(config, 1000)
    keras_ssl.export_encoder(frozen((32, 32, 3)), tmp_path / "teacher.keras")
    changes = [f"teacher={tmp_path / 'teacher.keras'}", "objective=cosine"]
    config = _runner.configure(RECIPE, "cifar10_small", changes)
    model = RECIPE.make_model(dataclasses.replace(config, images=0), 1000)
    assert model.teacher.feature_dim == 6 and model.backbone.feature_dim == 128
