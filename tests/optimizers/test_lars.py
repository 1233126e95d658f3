import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_ssl.optimizers import LARS, WarmupCosine

rng = np.random.default_rng(0)
WEIGHT = rng.normal(size=(5, 4)).astype("float32")
GRADS = rng.normal(size=(4, 5, 4)).astype("float32")


def run(optimizer, start, grads):
    """Weights after each step."""
    variable = keras.Variable(start)
    path = []
    for grad in grads:
        optimizer.apply([keras.ops.convert_to_tensor(grad)], [variable])
        path.append(keras.ops.convert_to_numpy(variable.value))
    return np.stack(path)


def run_stateless(optimizer, start, grads):
    """The same, without touching a variable."""
    optimizer.build([keras.Variable(start)])
    weights, state = [keras.ops.convert_to_tensor(start)], [v.value for v in optimizer.variables]
    path = []
    for grad in grads:
        grad = [keras.ops.convert_to_tensor(grad)]
        weights, state = optimizer.stateless_apply(state, grad, weights)
        path.append(keras.ops.convert_to_numpy(weights[0]))
    return np.stack(path)


def reference(start, grads, rates, momentum=0.9, decay=0.01, trust=1e-3, inside=False):
    """The equations in float64 NumPy."""
    w, v, path = start.astype("float64"), 0.0, []
    for grad, rate in zip(grads, rates):
        g = grad + decay * w
        g = g * trust * np.linalg.norm(w) / np.linalg.norm(g)
        v = momentum * v + (rate * g if inside else g)
        w = w - (v if inside else rate * v)
        path.append(w)
    return np.stack(path)


def test_golden(goldens):
    data = np.load(goldens / "lars_three_steps.npz")
    optimizer = LARS(
        learning_rate=float(data["param_learning_rate"]),
        momentum=float(data["param_momentum"]),
        weight_decay=float(data["param_weight_decay"]),
        trust_coefficient=float(data["param_trust_coefficient"]),
    )
    path = run(optimizer, data["in_weight"], [data["in_gradient"] * (1 + i) for i in range(3)])
    moved = data["out_weights"] - data["in_weight"]
    np.testing.assert_allclose(path - data["in_weight"], moved, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(path, data["out_weights"], rtol=1e-4)


@pytest.mark.parametrize("velocity", ["gradient", "update"])
def test_both_forms_equal_their_equations_under_a_changing_rate(velocity):
    schedule = WarmupCosine(30.0, 8, 2)
    path = run(LARS(schedule, weight_decay=0.01, velocity=velocity), WEIGHT, GRADS)
    rates = [float(schedule(i)) for i in range(4)]
    expected = reference(WEIGHT, GRADS, rates, inside=velocity == "update")
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)


def test_the_two_forms_agree_under_a_constant_rate_and_differ_under_another():
    def path(velocity, rate):
        return run(LARS(rate, velocity=velocity), WEIGHT, GRADS)

    np.testing.assert_allclose(path("gradient", 10.0), path("update", 10.0), rtol=1e-5, atol=1e-6)
    changing = WarmupCosine(10.0, 4)
    assert np.abs(path("gradient", changing) - path("update", changing)).max() > 1e-3


@pytest.mark.parametrize("velocity", ["gradient", "update"])
def test_a_vector_moves_as_under_plain_sgd_with_momentum(velocity):
    grads = GRADS[:, 0]
    path = run(LARS(0.3, weight_decay=0.5, velocity=velocity), WEIGHT[0], grads)
    np.testing.assert_allclose(
        path, run(keras.optimizers.SGD(0.3, 0.9), WEIGHT[0], grads), rtol=1e-5
    )


def test_a_vector_can_be_adapted_too():
    path = run(LARS(3.0, weight_decay=0.01, exclude_1d=False), WEIGHT[0], GRADS[:, 0])
    np.testing.assert_allclose(path, reference(WEIGHT[0], GRADS[:, 0], [3.0] * 4), rtol=1e-5)


def test_the_scale_of_the_loss_cancels_for_matrices_only():
    np.testing.assert_allclose(
        run(LARS(5.0), WEIGHT, GRADS), run(LARS(5.0), WEIGHT, 1000 * GRADS), rtol=1e-5, atol=1e-6
    )
    vector, grads = WEIGHT[0], GRADS[:, 0]
    assert np.abs(run(LARS(0.1), vector, grads) - run(LARS(0.1), vector, 10 * grads)).max() > 0.1


def test_first_step_has_the_length_the_trust_ratio_promises():
    step = run(LARS(2.0, trust_coefficient=0.01), WEIGHT, GRADS[:1])[0] - WEIGHT
    np.testing.assert_allclose(np.linalg.norm(step), 0.02 * np.linalg.norm(WEIGHT), rtol=1e-4)


def test_a_zero_weight_or_a_zero_gradient_has_ratio_one():
    zero = np.zeros_like(WEIGHT)
    np.testing.assert_allclose(run(LARS(0.5), zero, GRADS[:1])[0], -0.5 * GRADS[0], rtol=1e-5)
    np.testing.assert_array_equal(run(LARS(0.5), WEIGHT, zero[None])[0], WEIGHT)


def test_keras_own_weight_decay_does_not_fire_as_well():
    tiny = 1e-30 * np.ones_like(WEIGHT)  # adapted or not, decay is all that moves this weight
    step = run(LARS(1.0, weight_decay=0.1), WEIGHT, tiny[None])[0] - WEIGHT
    np.testing.assert_allclose(step, -1e-3 * WEIGHT, rtol=1e-3)


def test_exclude_from_weight_decay_is_honoured():
    optimizer = LARS(5.0, weight_decay=0.3)
    variable = keras.Variable(WEIGHT, name="temperature")
    optimizer.exclude_from_weight_decay(var_names=["temperature"])
    optimizer.apply([keras.ops.convert_to_tensor(GRADS[0])], [variable])
    np.testing.assert_allclose(variable, run(LARS(5.0), WEIGHT, GRADS[:1])[0], rtol=1e-5)


def test_config_round_trip_gives_the_same_steps():
    optimizer = LARS(WarmupCosine(9.0, 6, 1), 0.8, 0.02, 2e-3, velocity="update", exclude_1d=False)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.weight_decay == 0.02
    np.testing.assert_array_equal(run(again, WEIGHT, GRADS), run(optimizer, WEIGHT, GRADS))


def test_state_saves_and_continues(tmp_path):
    def model():
        layers = [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="glorot_normal")]
        built = keras.Sequential(layers)
        built.compile(LARS(20.0, weight_decay=0.01), "mse")
        return built

    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    first = model()
    first.fit(x, y, epochs=2, verbose=0, shuffle=False)
    first.save(tmp_path / "model.keras")
    second = keras.saving.load_model(tmp_path / "model.keras")
    for one in (first, second):
        one.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_gradient_accumulation_steps_with_the_mean():
    path = run(LARS(5.0, weight_decay=0.01, gradient_accumulation_steps=2), WEIGHT, GRADS)
    means = [(GRADS[0] + GRADS[1]) / 2, (GRADS[2] + GRADS[3]) / 2]
    expected = run(LARS(5.0, weight_decay=0.01), WEIGHT, means)
    np.testing.assert_array_equal(path[0], WEIGHT)
    np.testing.assert_allclose(path[1::2], expected, rtol=1e-5)


def test_loss_scaling_changes_nothing():
    scaled = keras.optimizers.LossScaleOptimizer(LARS(5.0, weight_decay=0.01), initial_scale=1024.0)
    if keras.backend.backend() == "jax":  # Keras scales losses there in stateless form only
        path = run_stateless(scaled, WEIGHT, 1024.0 * GRADS)
    else:
        path = run(scaled, WEIGHT, 1024.0 * GRADS)
    expected = run(LARS(5.0, weight_decay=0.01), WEIGHT, GRADS)
    np.testing.assert_allclose(path, expected, rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="stateless steps are JAX's")
def test_stateless_steps_equal_the_stateful_ones():
    path = run_stateless(LARS(5.0, weight_decay=0.01), WEIGHT, GRADS)
    np.testing.assert_allclose(path, run(LARS(5.0, weight_decay=0.01), WEIGHT, GRADS), rtol=1e-6)


def test_half_precision_weights_keep_their_dtype_and_finite_norms():
    variable = keras.Variable(200 * np.ones((50, 50)), dtype="float16")  # norm squared: 1e8
    LARS(100.0).apply([keras.ops.ones((50, 50), "float16")], [variable])
    np.testing.assert_allclose(np.asarray(variable.value, "float32"), 180.0, rtol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_equal_one_device():
    """In a process of its own, as virtual devices must be made before TensorFlow starts."""
    code = """
        import numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        half = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [half, half])
        import keras
        from keras_ssl.optimizers import LARS, WarmupCosine
        rng = np.random.default_rng(0)
        x = rng.normal(size=(16, 4)).astype("float32")
        y = rng.normal(size=(16, 3)).astype("float32")
        def train(strategy):
            with strategy.scope():
                keras.utils.set_random_seed(0)
                model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
                rate = WarmupCosine(20.0, 20, 4)
                model.compile(LARS(rate, weight_decay=0.01, velocity="update"), "mse")
                model.fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0)
            return model.get_weights()
        two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
        one = train(tf.distribute.get_strategy())
        for a, b in zip(one, two):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.abs(one[1]).max() > 1e-3
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "arguments",
    [{"momentum": 1.0}, {"weight_decay": -1.0}, {"trust_coefficient": 0.0}, {"velocity": "A"}],
)
def test_arguments_are_checked(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        LARS(**arguments)
