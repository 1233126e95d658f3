"""SGD, LARC and Adam with L2 in the gradient: PyTorch's equations, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.optimizers import LARC, SGD, Adam, WarmupCosine

rng = np.random.default_rng(0)
STEPS = 4
WEIGHT = rng.normal(size=(5, 4)).astype("float32")
GRADS = rng.normal(size=(STEPS, 5, 4)).astype("float32")
RATE = WarmupCosine(0.5, 8, 2)  # 0, 0.25, 0.5, ...: a path tells where the rate stands
RATES = [float(RATE(i)) for i in range(STEPS)]


def run(optimizer, start=WEIGHT, grads=GRADS):
    """Weights after each step."""
    variable = keras.Variable(start)
    path = []
    for grad in grads:
        optimizer.apply([ops.convert_to_tensor(grad)], [variable])
        path.append(ops.convert_to_numpy(variable.value))
    return np.stack(path)


def sgd(direction, momentum=0.9, nesterov=False, start=WEIGHT, grads=GRADS):
    """The equations in float64; `direction(g, w)` is the gradient that the velocity takes up."""
    w, v, path = start.astype("float64"), 0.0, []
    for rate, grad in zip(RATES, grads):
        g = direction(grad.astype("float64"), w)
        v = momentum * v + g
        w = w - rate * (g + momentum * v if nesterov else v)
        path.append(w)
    return np.stack(path)


def larc(decay, trust):
    def direction(g, w):
        norm, length = np.linalg.norm(w), np.linalg.norm(g)
        return (g + decay * w) * trust * norm / (length + decay * norm + 1e-8)

    return direction


def torch_path(name, momentum_rates, start=WEIGHT, grads=GRADS, adapt=None, **settings):
    """Weights after each step of a PyTorch optimizer under the same rates."""
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(torch.optim, name)([weight], lr=1.0, **settings)
    path = []
    for rate, grad in zip(momentum_rates, grads):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(grad if adapt is None else adapt(grad, weight.detach().numpy()))
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[0]], ids=["matrix", "vector"])
def test_sgd_is_its_equations_for_every_variable(weight, nesterov):
    grads = GRADS if weight.ndim == 2 else GRADS[:, 0]
    path = run(SGD(RATE, 0.8, 0.05, nesterov), weight, grads)
    expected = sgd(lambda g, w: g + 0.05 * w, 0.8, nesterov, weight, grads)
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs(nesterov):
    path = run(SGD(RATE, 0.9, 0.05, nesterov))
    theirs = torch_path("SGD", RATES, momentum=0.9, weight_decay=0.05, nesterov=nesterov)
    np.testing.assert_allclose(path, theirs, rtol=1e-5, atol=1e-6)


def test_sgd_equals_keras_where_they_agree_and_differs_where_they_do_not():
    np.testing.assert_allclose(run(SGD(0.1)), run(keras.optimizers.SGD(0.1, 0.9)), rtol=1e-5)
    for changed in ({"learning_rate": RATE}, {"learning_rate": 0.1, "weight_decay": 0.05}):
        theirs = run(keras.optimizers.SGD(momentum=0.9, **changed))
        assert np.abs(run(SGD(**changed)) - theirs).max() > 1e-3


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[0]], ids=["matrix", "vector"])
def test_larc_is_its_equations_for_every_variable(weight):
    grads = GRADS if weight.ndim == 2 else GRADS[:, 0]
    path = run(LARC(RATE, 0.9, 0.05, 0.02), weight, grads)
    expected = sgd(larc(0.05, 0.02), start=weight, grads=grads)
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(path - weight).max() > 1e-3


def test_larc_is_pytorchs_sgd_on_scaled_gradients():
    adapt = lambda g, w: larc(0.05, 0.02)(g, w).astype("float32")  # noqa: E731
    theirs = torch_path("SGD", RATES, adapt=adapt, momentum=0.9)
    np.testing.assert_allclose(run(LARC(RATE, 0.9, 0.05, 0.02)), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trust", [0.02, 0.4], ids=["below the rate", "above it at first"])
def test_clipped_larc_moves_a_tensor_by_its_own_rate_or_the_given_one(trust):
    """The velocity is of gradients times min(q / r, 1), which r multiplies again: min(q, r)."""
    w, v, path, clipped = WEIGHT.astype("float64"), 0.0, [], []
    for rate, grad in zip(RATES, GRADS.astype("float64")):
        g = larc(0.05, trust)(grad, w)
        ratio = np.linalg.norm(g) / np.linalg.norm(grad + 0.05 * w)
        clipped.append(ratio >= rate)
        v = 0.9 * v + (grad + 0.05 * w) * (1.0 if clipped[-1] else ratio / rate)
        w = w - rate * v
        path.append(w)
    assert clipped[0] and clipped.count(True) == (1 if trust == 0.02 else 2)
    found = run(LARC(RATE, 0.9, 0.05, trust, clip=True))
    np.testing.assert_allclose(found, np.stack(path), rtol=1e-5, atol=1e-6)


def test_larc_can_spare_vectors():
    spared = LARC(RATE, 0.9, 0.05, 0.02, clip=True, exclude_1d=True)
    np.testing.assert_array_equal(
        run(spared, WEIGHT[0], GRADS[:, 0]), run(SGD(RATE), WEIGHT[0], GRADS[:, 0])
    )
    bare = run(LARC(RATE, 0.9, 0.05, 0.02, clip=True))
    np.testing.assert_array_equal(run(LARC(RATE, 0.9, 0.05, 0.02, True, True)), bare)


def test_larc_leaves_gradients_alone_where_a_norm_is_zero():
    zero = np.zeros_like(WEIGHT)
    np.testing.assert_allclose(run(LARC(0.5), zero, GRADS[:1])[0], -0.5 * GRADS[0], rtol=1e-6)
    frozen = run(LARC(0.5, weight_decay=0.3), WEIGHT, np.stack([zero] * 3))
    np.testing.assert_array_equal(frozen, np.stack([WEIGHT] * 3))


def test_adam_decays_inside_the_gradient():
    """A path of Keras' Adam under gradients to which the decay was added by hand."""
    variable, plain, path = keras.Variable(WEIGHT), keras.optimizers.Adam(RATE, beta_1=0.5), []
    for grad in GRADS:
        plain.apply([ops.convert_to_tensor(grad + 0.3 * np.asarray(variable.value))], [variable])
        path.append(np.asarray(variable.value))
    ours = run(Adam(RATE, weight_decay=0.3, beta_1=0.5))
    np.testing.assert_allclose(ours, np.stack(path), rtol=1e-5, atol=1e-6)
    decoupled = run(keras.optimizers.Adam(RATE, weight_decay=0.3, beta_1=0.5))
    assert np.abs(ours - decoupled).max() > 1e-2


def test_adam_is_pytorchs():
    path = run(Adam(RATE, weight_decay=0.3, beta_1=0.5, epsilon=1e-12))
    theirs = torch_path("Adam", RATES, weight_decay=0.3, betas=(0.5, 0.999), eps=1e-12)
    np.testing.assert_allclose(path, theirs, rtol=1e-4, atol=1e-5)


def test_adam_can_spare_vectors():
    grads = GRADS[:, 0]
    spared = run(Adam(RATE, weight_decay=0.3, exclude_1d=True), WEIGHT[0], grads)
    np.testing.assert_array_equal(spared, run(Adam(RATE), WEIGHT[0], grads))
    matrix = run(Adam(RATE, weight_decay=0.3, exclude_1d=True))
    np.testing.assert_array_equal(matrix, run(Adam(RATE, weight_decay=0.3)))


MADE = {
    "sgd": lambda: SGD(RATE, 0.8, 0.05, nesterov=True),
    "larc": lambda: LARC(RATE, 0.8, 0.05, 0.02),
    "larc, clipped": lambda: LARC(RATE, 0.8, 0.05, 0.02, clip=True, exclude_1d=True),
    "adam": lambda: Adam(RATE, weight_decay=0.05, exclude_1d=True, beta_1=0.5),
}


@pytest.mark.parametrize("name", MADE)
def test_exclusion_round_trip_clipping_and_loss_scale(name):
    make = MADE[name]
    again = keras.optimizers.deserialize(keras.optimizers.serialize(make()))
    assert again.get_config() == make().get_config()
    np.testing.assert_array_equal(run(again), run(make()))
    excluded = make()
    excluded.exclude_from_weight_decay(var_names=["variable"])
    bare = make()
    bare.weight_decay = 0.0
    np.testing.assert_allclose(run(excluded), run(bare), rtol=1e-6)
    clipped = make()
    clipped.clipnorm = 1.0  # of the gradient of the loss, before the decay, as PyTorch's
    small = [g / np.linalg.norm(g) for g in GRADS]
    np.testing.assert_allclose(run(clipped), run(make(), grads=small), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MADE)
def test_state_saves_and_continues(name, tmp_path):
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    first = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    first.compile(MADE[name](), "mse")
    first.fit(x, y, epochs=3, verbose=0, shuffle=False)
    first.save(tmp_path / "model.keras")
    second = keras.saving.load_model(tmp_path / "model.keras")
    for one in (first, second):
        one.fit(x, y, epochs=3, verbose=0, shuffle=False)
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="stateless steps are JAX's")
@pytest.mark.parametrize("name", MADE)
def test_stateless_steps_equal_the_stateful_ones(name):
    optimizer = MADE[name]()
    optimizer.build([keras.Variable(WEIGHT)])
    weights, state = [ops.convert_to_tensor(WEIGHT)], [v.value for v in optimizer.variables]
    path = []
    for grad in GRADS:
        gradients = [ops.convert_to_tensor(grad)]
        weights, state = optimizer.stateless_apply(state, gradients, weights)
        path.append(np.asarray(weights[0]))
    np.testing.assert_allclose(np.stack(path), run(MADE[name]()), rtol=1e-6)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: SGD(0.1, momentum=1.0), "momentum"),
        (lambda: SGD(0.1, weight_decay=-1.0), "weight_decay"),
        (lambda: SGD(0.1, weight_decay=None), "weight_decay"),
        (lambda: LARC(0.1, trust_coefficient=0.0), "trust_coefficient"),
        (lambda: Adam(0.1, weight_decay=-1.0), "weight_decay"),
    ],
)
def test_arguments_are_checked(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make()
