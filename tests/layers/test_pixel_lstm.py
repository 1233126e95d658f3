"""LSTM layers over images: against loops over pixels, what sees what, pixel by pixel."""

import keras
import numpy as np
import pytest

from keras_ssl.layers.pixel_lstm import DiagonalBiLSTM, RowLSTM, skew, unskew

RNG = np.random.default_rng(0)
LAYERS = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


def make(kind, shape=(4, 5, 6), units=6, groups=3):
    layer = LAYERS[kind](units, groups)
    layer.build((None, *shape))
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape) * 0.5)
    return layer


def maps(n=2, shape=(4, 5, 6)):
    return RNG.normal(size=(n, *shape)).astype("float32")


def effects(layer, x):
    """How far output (place, channel) changes with input (place, channel)."""
    shape, size = x.shape[1:], x.size
    changed = x.reshape(1, size) + np.eye(size, dtype="float32")
    y = np.array(layer(np.concatenate([x, changed.reshape(size, *shape)])))
    places = (shape[0] * shape[1], shape[2])
    return np.abs(y[1:] - y[0]).reshape(*places, *places).transpose(2, 3, 0, 1)


def seen(layer, x):
    """Whether it does, by more than sums in another order would."""
    return effects(layer, x) > 1e-5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(gates, c):
    o, f, i, g = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("size", [(4, 5), (5, 4), (1, 3), (3, 1)])
def test_skew_moves_rows_and_back(size):
    height, width = size
    x = maps(2, (height, width, 3))
    y = np.array(skew(x))
    assert y.shape == (2, height, width + height - 1, 3)
    for r in range(height):
        np.testing.assert_array_equal(y[:, r, r : r + width], x[:, r])
    assert np.count_nonzero(y) == np.count_nonzero(x)
    np.testing.assert_array_equal(unskew(y, width), x)


def test_row_lstm_is_a_loop_over_rows():
    layer, x = make("row"), maps()
    gates = np.array(layer.from_input(x), "float64")
    kernel = np.array(layer.from_state.kernel, "float64")
    h = c = np.zeros((2, 5, 6))
    rows = []
    for r in range(4):
        padded = np.pad(h, ((0, 0), (1, 1), (0, 0)))
        state = sum(padded[:, k : k + 5] @ kernel[k] for k in range(3))
        h, c = lstm(state + gates[:, r], c)
        rows.append(h)
    expected = x + np.array(layer.widen(np.stack(rows, axis=1).astype("float32")))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_diagonal_lstm_is_a_loop_over_pixels():
    layer, x = make("diagonal"), maps()
    total = np.zeros((2, 4, 5, 6))
    for side, order in (("left", range(5)), ("right", range(4, -1, -1))):
        gates = np.array(layer.inputs_of[side](x), "float64")
        up, beside = np.split(np.array(layer.states_of[side], "float64"), 2)
        h = np.zeros((2, 4, 5, 6))
        for r in range(4):
            last, c = np.zeros((2, 6)), np.zeros((2, 6))
            for j in order:
                above = h[:, r - 1, j] if r else np.zeros((2, 6))
                last, c = lstm(gates[:, r, j] + above @ up + last @ beside, c)
                h[:, r, j] = last
        total += h if side == "left" else np.pad(h[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    expected = x + np.array(layer.widen(total.astype("float32")))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_diagonal_lstm_sees_all_before_it_and_no_other():
    """In one layer, at one colour: pixels before, and of its own the colours up to its own."""
    found = effects(make("diagonal", (4, 4, 6)), maps(1, (4, 4, 6)))
    group = np.arange(6) // 2
    own = group[:, None] >= group[None]
    for n in range(16):
        assert (found[n, :, :n] > 0).all()
        np.testing.assert_array_equal(found[n, :, n] > 1e-5, own)
        assert (found[n, :, n + 1 :] < 1e-5).all()


def test_row_lstm_sees_a_triangle():
    """Row r - k within k columns, and one more to the left through the input; nothing after."""
    found = seen(make("row", (4, 5, 6)), maps(1, (4, 5, 6))).any(axis=(1, 3))
    r, c = (places.ravel() for places in np.indices((4, 5)))
    up, left = r[:, None] - r[None], c[:, None] - c[None]
    expected = (up >= 0) & (left <= up + 1) & (left >= -up)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_colours_come_in_order(kind):
    found = seen(make(kind, (2, 3, 6)), maps(1, (2, 3, 6)))
    group = np.arange(6) // 2
    for n in range(6):
        np.testing.assert_array_equal(found[n, :, n], group[:, None] >= group[None])


@pytest.mark.parametrize("kind", LAYERS)
def test_pixel_by_pixel_is_the_whole(kind):
    layer, x = make(kind), maps()
    state, rows = layer.start(2, 5), []
    for r in range(4):
        side = layer.before_row(state)
        left, row, taken = np.zeros((2, layer.kept), "float32"), [], []
        for c in range(5):
            y, left = layer.pixel(x[:, r, c], left, side[:, c])
            row.append(np.array(y))
            taken.append(np.array(left))
        state = layer.after_row(state, np.stack(taken, axis=1))
        rows.append(np.stack(row, axis=1))
    np.testing.assert_allclose(np.stack(rows, axis=1), layer(x), atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_forget_gate_starts_open(kind):
    layer = LAYERS[kind](4)
    layer.build((None, 3, 3, 8))
    convs = [layer.from_input] if kind == "row" else list(layer.inputs_of.values())
    for conv in convs:
        np.testing.assert_array_equal(np.array(conv.bias).reshape(4, 4)[:, 0], [0, 1, 0, 0])


@pytest.mark.parametrize("kind", LAYERS)
def test_config_and_weights_round_trip(kind, tmp_path):
    inputs = keras.Input((4, 5, 6))
    model = keras.Model(inputs, LAYERS[kind](6, 3)(inputs))
    x = maps()
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(x), model(x))
