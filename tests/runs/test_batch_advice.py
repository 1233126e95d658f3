"""`batch_size="auto"`: what fits is found by trying, and no trial takes more than there is."""

import contextlib
import json
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

import keras_ssl
from keras_ssl import distribute, optimizers
from keras_ssl.engine import optimizer as frame
from keras_ssl.runs import batches, folder, memory

MB = 10**6
CURVES = {
    "linear": lambda n: 300 * MB + n * MB,
    "quadratic": lambda n: 50 * MB + n**2 * MB / 64,
    "both": lambda n: 100 * MB + n * MB + n**2 * MB / 256,
    "hidden at first": lambda n: max(600 * MB, 100 * MB + 4 * n * MB),
}


@pytest.fixture(autouse=True)
def nothing_to_forget(request, monkeypatch):
    """Collecting garbage takes a third of a second, and only real trials leave any."""
    if "tmp_path" not in request.fixturenames:
        monkeypatch.setattr(batches, "forgetting", contextlib.nullcontext)


class Machine:
    """In the place of `Memory`: what a batch takes, by a curve; the sizes that were tried."""

    def __init__(self, curve, room):
        self._curve, self._room, self.tried, self._peak = curve, room, [], 0

    def forget(self):
        self._peak = 0

    def attempt(self, size):
        self.tried.append(size)
        self._peak = self._curve(size)

    def read(self):
        return {"this machine": memory.Reading(self._peak, self._room)}


@pytest.mark.parametrize("name", CURVES)
def test_the_next_peak_is_extrapolated_from_the_last_two_increments(name):
    curve, sizes = CURVES[name], [8 << k for k in range(9)]
    used = [curve(n) for n in sizes]
    for k in range(1, len(used)):
        assert batches.expected(used[:k]) >= used[k] * 0.999
    if name != "hidden at first":  # exact where the curve is known
        for k in range(3, len(used)):
            assert batches.expected(used[:k]) == pytest.approx(used[k])


def test_growth_that_is_not_regular_is_at_least_a_doubling():
    assert batches.expected([5]) == 10
    assert batches.expected([5, 6]) == 12
    assert batches.expected([1, 5]) == 5 + 4 * 4
    assert batches.expected([5, 6, 5]) == 10  # noise
    assert batches.expected([5, 8, 9]) == 11  # slower than linear counts as linear


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("room", [1000, 2000, 5000])
def test_a_small_memory_ends_the_search_before_it_is_full(name, room):
    machine = Machine(CURVES[name], room * MB)
    found = batches.find(10**6, machine.attempt, machine)
    assert found.size == machine.tried[-1]
    assert CURVES[name](found.size) <= 0.8 * room * MB
    if room > 1000:  # and it is not far below what fits, where the curve shows
        assert CURVES[name](4 * found.size) > 0.8 * room * MB
    assert f"of {room / 1000:.2f} GB of this machine, more than 80%" in found.why


@pytest.mark.parametrize(
    ("images", "accumulation", "size", "why"),
    [
        (10**6, None, 4096, "more than 4,096 are not tried"),
        (5000, None, 256, "with 512 an epoch of 5,000 images would have fewer than 16 steps"),
        (5000, 4, 64, "with 128 an epoch of 5,000 images would have fewer than 16 steps"),
        (100, None, 32, "with 64 an epoch of 100 images"),
        (20, None, 16, "with 32 an epoch of 20 images"),
        (5, None, 4, "with 8 an epoch of 5 images"),
    ],
)
def test_the_number_of_images_ends_it_too(images, accumulation, size, why):
    machine = Machine(lambda n: n, 10**9)
    found = batches.find(images, machine.attempt, machine, accumulation=accumulation)
    assert found.size == size and why in found.why


def test_devices_share_a_batch_evenly():
    assert batches.sizes(100, 3) == [12, 24, 48, 96]
    assert batches.sizes(4, 4) == [4] and batches.sizes(3, 4) == [4]  # `fit` refuses the last


def test_a_device_without_memory_ends_it():
    def attempt(size):
        if size > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    limit, machine = 32, Machine(lambda n: n, 10**9)
    found = batches.find(10**6, attempt, machine)
    assert found.size == 32 and found.why == "there is no memory for 64"
    limit = 0
    with pytest.raises(RuntimeError, match="no memory for the smallest batch .*, 8 images"):
        batches.find(10**6, attempt, machine)


def test_sizes_that_a_method_refuses_are_passed_over():
    def attempt(size):
        if not least <= size <= most:
            raise ValueError(f"no {size}")

    machine = Machine(lambda n: n, 10**9)
    least, most = 128, 512
    found = batches.find(10**6, attempt, machine)
    assert found.size == 512 and found.why == "1,024 cannot be used: no 1024"
    assert batches.find(300, attempt, machine).size == 128  # more than leaves an epoch 16 steps
    least = 8192
    with pytest.raises(ValueError, match="no 4096"):
        batches.find(10**6, attempt, machine)
    with pytest.raises(ValueError, match="of something else"):
        batches.find(10**6, mock.Mock(side_effect=ValueError("of something else")), machine)


SETTINGS = {"epochs": 2, "precision": "float32", "monitor": False}


def run(out, batch_size, verbose=0, **options):
    """A run of new networks on 72 images; only its folder's report and encoder are left out."""
    module = sys.modules["keras_ssl.runs.pretrain"]  # the package's attribute is the function
    keras.utils.set_random_seed(7)
    backbone = toys.tiny_backbone()
    keras.utils.set_random_seed(int(batch_size == "auto"))  # `pretrain` sets its own
    with (
        mock.patch.object(module, "export_encoder"),
        mock.patch.object(module.report, "write_report"),
    ):
        return keras_ssl.pretrain(
            "rotnet",
            toys.images(72),
            out,
            backbone=backbone,
            batch_size=batch_size,
            verbose=verbose,
            **{**SETTINGS, **options},
        )


def test_the_run_is_that_of_the_number_bit_for_bit_also_when_killed(tmp_path, capsys):
    def killed(recorder, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole", 32)
    with (
        mock.patch.object(batches, "_START", 16),
        mock.patch.object(folder.Recorder, "on_epoch_begin", killed, create=True),
        pytest.raises(KeyboardInterrupt),
    ):
        run(tmp_path / "auto", "auto", verbose=2)
    said = capsys.readouterr().out
    assert "Batches of 16: " in said and "Batches of 32: " in said
    assert "Batch size: 32 images, " in said and "fewer than 16 steps" in said
    assert "Peak learning rate: " in said and "gradient_accumulation_steps" in said
    assert json.loads((tmp_path / "auto" / "config.json").read_text())["batch_size"] == 32
    with mock.patch.object(batches, "find", side_effect=AssertionError("searched again")):
        again = run(tmp_path / "auto", "auto", verbose=2)
    assert "Batch size: 32 images, with which the run was begun." in capsys.readouterr().out
    assert again.metrics == whole.metrics
    for a, b in zip(whole.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_the_size_means_for_the_rate_is_said():
    model = toys.Follower(toys.tiny_backbone())
    cosine = keras.optimizers.schedules.CosineDecay(0.1, 100, warmup_target=0.8, warmup_steps=10)
    players = optimizers.Players(
        a=keras.optimizers.Adam(2e-4), b=keras.optimizers.SGD(optimizers.WarmupCosine(0.3, 9, 3))
    )
    for optimizer, text in (
        (optimizers.LARS(optimizers.WarmupCosine(1.5, 100, 10)), "1.5 (LARS)"),
        (keras.optimizers.SGD(cosine), "0.8 (SGD)"),
        (players, "0.0002 and 0.3 (Adam, SGD)"),
    ):
        model.compile(optimizer)
        assert frame.peak_rate(model) == text
    same, other = batches._on_rate("3 (Adam)", "3 (Adam)"), batches._on_rate("3 (A)", "2 (B)")
    assert same.endswith("3 (Adam), which does not depend on the batch.")
    assert other == "Peak learning rate: 3 (A); with batches of 256 it is 2 (B)."
    assert batches._on_rate("3 (A)", None) == "Peak learning rate: 3 (A)."


def test_memory_is_read_off_the_system():
    own = memory.Memory()
    held = np.ones(8 * MB)  # 64 MB
    del held
    reading = own.read()["this machine"]
    assert 60 * MB < reading.used < 200 * MB and reading.room > 60 * MB
    own.forget()
    assert own.read()["this machine"].used < 30 * MB


@pytest.mark.parametrize(
    ("line", "root", "limit", "usage", "cache"),
    [
        ("0::/a/b", "", "memory.max", "memory.current", "inactive_file"),
        (
            "4:cpu,memory:/a/b",
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_limits_of_control_groups_count(tmp_path, monkeypatch, line, root, limit, usage, cache):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(f"1:cpuset:/\n{line}\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8 kB\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    assert memory._available() == 8 * 1024  # a group that is not to be seen from here
    for name, most in (("a/b", "max"), ("a", "5000")):
        group = tmp_path / "groups" / root / name
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(f"{most}\n")
        (group / usage).write_text("3000\n")
        (group / "memory.stat").write_text(f"anon 1\n{cache} 1000\n")
    assert memory._available() == 5000 - (3000 - 1000)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "absent")
    with pytest.raises(ValueError, match="'auto' needs a system .* Give a number"):
        memory.Memory()


def test_accelerators_are_read_where_there_are_any(monkeypatch):
    assert distribute.device_memory() == {}
    assert distribute._memory_limits()["CPU:0"] > 0  # by functions that TensorFlow may move
    config, reset = tf.config.experimental, mock.Mock()
    monkeypatch.setattr(distribute, "_accelerators", lambda: ["GPU:0", "GPU:1"])
    monkeypatch.setattr(distribute, "_memory_limits", lambda: {"GPU:0": 9})
    monkeypatch.setattr(config, "get_memory_info", lambda name: {"current": 1, "peak": 7})
    monkeypatch.setattr(config, "reset_memory_stats", reset)
    assert distribute.device_memory() == {"GPU:0": (7, 9), "GPU:1": (7, None)}
    own = memory.Memory()
    assert own.read()["GPU:0"] == (7, 9) and "GPU:1" not in own.read()
    assert reset.call_args_list == [mock.call("GPU:0"), mock.call("GPU:1")]
    assert distribute.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: of JAX"))
    assert not distribute.is_out_of_memory(RuntimeError("another"))
