"""The number format of a run is the faster one, chosen once."""

import keras
import pytest

from keras_ssl.runs import precisions


@pytest.mark.parametrize(
    ("factor", "taken"), [(2.2, "mixed_bfloat16"), (1.31, "mixed_bfloat16"), (1.0, "float32")]
)
def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch, factor, taken):
    monkeypatch.setattr(precisions, "speedup", lambda: factor)
    name, why = precisions.resolve("auto")
    assert name == taken and taken in why and f"{factor:.1f} times" in why


def test_what_is_asked_for_or_recorded_is_not_measured(monkeypatch):
    monkeypatch.setattr(precisions, "speedup", lambda: pytest.fail("measured"))
    assert precisions.resolve("mixed_float16")[0] == "mixed_float16"
    assert precisions.resolve("float32", "mixed_bfloat16")[0] == "float32"
    name, why = precisions.resolve("auto", "mixed_bfloat16")
    assert name == "mixed_bfloat16" and "begun" in why
    name, why = precisions.resolve("auto", reason="of the weather")
    assert name == "float32" and "of the weather" in why


def test_unknown_formats_are_an_error():
    with pytest.raises(ValueError, match="must be one of .* Received: precision='bf16'"):
        precisions.resolve("bf16")


def test_speedup_is_a_ratio_of_times_and_the_policy_ends_with_its_block():
    assert 0.01 < precisions.speedup() < 100
    with precisions.policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
