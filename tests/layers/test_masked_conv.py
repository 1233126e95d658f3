import keras
import numpy as np
import pytest
from causality import before, influence
from keras import ops

from keras_ssl.layers.fixed_kernels import fixed_kernels, kernel_of
from keras_ssl.layers.gated_resnet import GatedResidualBlock, concat_elu
from keras_ssl.layers.masked_conv import (
    GatedMaskedConv,
    MaskedConv2D,
    MaskedResidualBlock,
    ShiftedConv2D,
    ShiftedConv2DTranspose,
    gate,
)

SIZE = (5, 6)


def maps(channels, seed=0, size=SIZE, n=2):
    return np.random.default_rng(seed).random((n, *size, channels)).astype("float32")


def built(layer, channels, size=SIZE):
    keras.utils.set_random_seed(3)
    layer.build((None, *size, channels))
    return layer


def groups_of(channels, groups, parts=1):
    part = channels // parts
    return np.arange(channels) % part * groups // part


# --- Masked convolutions


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize(
    "kernel, groups, channels, filters, parts",
    [((3, 3), 1, 2, 2, 1), ((5, 3), 3, 3, 7, 1), ((1, 3), 3, 7, 10, 2), (1, 2, 5, 4, 1)],
)
def test_masks_keep_the_order_of_pixels_and_colours(kind, kernel, groups, channels, filters, parts):
    """What is before the pixel is seen, within the kernel; at the pixel, colours before (A, B)."""
    layer = built(MaskedConv2D(filters, kernel, kind, groups, parts), channels)
    found = influence(layer, (*SIZE, channels))
    found = found.transpose(0, 1, 3, 4, 2, 5)  # (h, w, H, W, F, C)
    kh, kw = layer.kernel_size
    i, j, a, b = np.ogrid[: SIZE[0], : SIZE[1], : SIZE[0], : SIZE[1]]
    reached = (abs(i - a) <= kh // 2) & (abs(j - b) <= kw // 2)
    legal = (before(SIZE) & reached)[..., None, None] & np.ones((filters, channels), bool)
    entering, leaving = groups_of(channels, groups), groups_of(filters, groups, parts)
    order = np.less if kind == "A" else np.less_equal
    here = order(entering[None], leaving[:, None])
    legal = legal | (((i == a) & (j == b))[..., None, None] & here)
    np.testing.assert_array_equal(found, legal)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 5), (1, 1), (3, 1)])
def test_rows_and_pixels_add_up_to_the_convolution(kernel):
    layer, x = built(MaskedConv2D(4, kernel, "B", 3), 5), maps(5)
    layer.bias.assign([1.0, -1.0, 2.0, 0.5])
    expected = np.array(layer(x))
    rows, left = layer.rows_above, layer.columns_left
    padded = np.pad(x, ((0, 0), (rows, 0), (left, 0), (0, 0)))
    for i in range(SIZE[0]):
        above = layer.above(ops.convert_to_tensor(padded[:, i : i + rows, left:]))
        for j in range(SIZE[1]):
            here = layer.here(x[:, i, j], padded[:, rows + i, j : j + left])
            np.testing.assert_allclose(above[:, j] + here, expected[:, i, j], atol=1e-5)


def test_kernels_start_with_the_variance_of_their_live_taps():
    """Glorot's variance is that of a dense kernel; here about half of the taps is masked."""
    x = np.random.default_rng(0).standard_normal((8, 16, 16, 48)).astype("float32")
    dense = keras.layers.Conv2D(48, 5, padding="same")
    masked = built(MaskedConv2D(48, 5, groups=3), 48, (16, 16))
    inside = np.array(masked(x))[:, 3:-3, 3:-3].std()
    assert inside == pytest.approx(np.array(dense(x))[:, 3:-3, 3:-3].std(), rel=0.3)


def test_errors():
    for arguments, message in [
        (((2, 3),), "`kernel_size` must be odd.*2, 3"),
        ((3, "C"), "`kind` must be one of.*'C'"),
        ((3, "B", 5), "`filters` must be.*filters=4, groups=5"),
        ((3, "B", 1, 3), "multiple of `parts`.*parts=3"),
    ]:
        with pytest.raises(ValueError, match=message):
            MaskedConv2D(4, *arguments)
    with pytest.raises(ValueError, match="`kernel_size` must be odd and at least 3.*1"):
        GatedMaskedConv(4, 1)
    with pytest.raises(ValueError, match="`kind` must be 'down' or.*'up'"):
        ShiftedConv2D(4, (2, 3), "up")
    with pytest.raises(ValueError, match="odd width for 'down'"):
        ShiftedConv2D(4, (2, 2), "down")
    with pytest.raises(ValueError, match=r"\(2, 2\) for 'down_right'"):
        ShiftedConv2DTranspose(4, (2, 3), "down_right")


# --- Blocks


def test_plain_block_sees_its_own_and_earlier_colours():
    layer = built(MaskedResidualBlock(3, groups=3), 6)
    found = influence(layer, (*SIZE, 6))
    assert not (found.any((2, 5)) & ~before(SIZE, inclusive=True)).any()
    own = found[2, 2, :, 2, 2]
    entering = groups_of(6, 3)
    assert not own[entering[:, None] < entering[None]].any() and own.diagonal().all()


@pytest.mark.parametrize("first", [True, False])
def test_gated_layer(first):
    """v' sees rows of v up to its own (of the image, rows above); h' what is left of it too."""
    channels = 3 if first else 6
    layer = GatedMaskedConv(6, 3, groups=3, first=first)
    size = (None, *SIZE, channels)
    keras.utils.set_random_seed(3)
    layer.build(size if first else [size, size])
    zeros = np.zeros((1, *SIZE, channels), "float32")

    def output(part, source):
        def function(x):
            other = np.repeat(zeros, len(x), axis=0)
            inputs = x if first else ([x, other] if source == "v" else [other, x])
            return layer(inputs)[part]

        return influence(function, (*SIZE, channels))

    v, h = (output(part, "v").any((2, 5)) for part in (0, 1))
    rows = before(SIZE, inclusive=not first, row_only=True)
    assert v.any() and not (v & ~rows).any()
    if first:
        assert not (h & ~before(SIZE, inclusive=True)).any()
        own = output(1, "h")[2, 2, :, 2, 2]  # of the pixel itself, earlier colours alone
        assert not own[groups_of(6, 3)[:, None] <= np.arange(3)[None]].any() and own.any()
        return
    assert h.any() and not (h & ~rows).any()
    assert not output(0, "h").any()
    own = output(1, "h")
    assert not (own.any((2, 5)) & ~before(SIZE, inclusive=True)).any()
    assert not own[2, 2, :, 2, 2][groups_of(6, 3)[:, None] < groups_of(6, 3)[None]].any()


def test_gate():
    x = maps(6)
    expected = np.tanh(x[..., :3]) / (1 + np.exp(-x[..., 3:]))
    np.testing.assert_allclose(gate(x), expected, atol=1e-6)


# --- Shifted convolutions


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize(
    "kernel, kind, shift",
    [
        ((2, 3), "down", (0, 0)),
        ((2, 3), "down", (1, 0)),
        ((1, 3), "down", (1, 0)),
        ((2, 2), "down_right", (0, 0)),
        ((2, 1), "down_right", (0, 1)),
    ],
)
def test_shifts_keep_the_order_of_pixels(kernel, kind, shift, weight_norm):
    layer = built(ShiftedConv2D(2, kernel, kind, shift, weight_norm=weight_norm), 2)
    found = influence(layer, (*SIZE, 2)).any((2, 5))
    (kh, kw), (down, right) = kernel, shift
    left, beyond = (kw // 2, kw // 2) if kind == "down" else (kw - 1 + right, -right)
    i, j, a, b = np.ogrid[: SIZE[0], : SIZE[1], : SIZE[0], : SIZE[1]]
    rows = (a > i - down - kh) & (a <= i - down)
    np.testing.assert_array_equal(found, rows & (b >= j - left) & (b <= j + beyond))


@pytest.mark.parametrize("kind, kernel", [("down", (2, 3)), ("down_right", (2, 2))])
def test_halving_and_doubling_keep_the_order_of_pixels(kind, kernel):
    """Output (a, b) of a halving lies at (2a, 2b); of a doubling, all four pixels lie after it."""
    size = (4, 6)
    halve = built(ShiftedConv2D(2, kernel, kind, strides=2, weight_norm=True), 2, size)
    found = influence(halve, (*size, 2)).any((2, 5))
    assert found.shape == (2, 3, 4, 6)
    places = (2 * np.arange(2), 2 * np.arange(3))
    down = kind == "down"
    assert not (found & ~before(size, places, inclusive=True, row_only=down)).any()
    double = built(ShiftedConv2DTranspose(2, kernel, kind), 2, (2, 3))
    found = influence(double, (2, 3, 2)).any((2, 5))
    assert found.shape == (4, 6, 2, 3) and found.any((0, 1)).all()
    places = (np.arange(4) // 2, np.arange(6) // 2)
    assert not (found & ~before((2, 3), places, inclusive=True, row_only=down)).any()
    both = influence(lambda x: double(halve(x)), (*size, 2)).any((2, 5))
    assert not (both & ~before(size, inclusive=True, row_only=down)).any()


def test_rows_and_pixels_of_shifted_convolutions():
    x = maps(3, size=(4, 6))
    padded = np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
    for strides in (1, 2):
        down, right = (
            built(ShiftedConv2D(4, kernel, kind, strides=strides, weight_norm=True), 3, (4, 6))
            for kernel, kind in (((2, 3), "down"), ((2, 2), "down_right"))
        )
        for layer in (down, right):
            layer.bias.assign([1.0, 2.0, -1.0, 0.5])
        rows, pixels = np.array(down(x)), np.array(right(x))
        for i in range(0, 4, strides):
            row = down.row(padded[:, i : i + 2, 1:])
            np.testing.assert_allclose(row, rows[:, i // strides], atol=1e-5)
            above = right.above(padded[:, i : i + 1, 1:])
            for j in range(0, 6, strides):
                found = above[:, j // strides] + right.here(padded[:, i + 1, j], x[:, i, j])
                expected = pixels[:, i // strides, j // strides]
                np.testing.assert_allclose(found, expected, atol=1e-5)
    for kind, kernel in (("down", (2, 3)), ("down_right", (2, 2))):
        double = built(ShiftedConv2DTranspose(4, kernel, kind), 3, (4, 6))
        whole = np.array(double(x))
        np.testing.assert_allclose(double(x[:, 1:2]), whole[:, 2:4], atol=1e-5)
        if kind == "down_right":
            np.testing.assert_allclose(double(x[:, 1:2, 2:3]), whole[:, 2:4, 4:6], atol=1e-5)


# --- The residual block of PixelCNN++


def test_concat_elu():
    x = np.array([[-1.0, 2.0]], "float32")
    elu = lambda v: np.where(v > 0, v, np.expm1(v))  # noqa: E731
    np.testing.assert_allclose(concat_elu(x), elu(np.array([[-1, 2, 1, -2.0]])), atol=1e-6)


@pytest.mark.parametrize("kind", ["down", "down_right"])
def test_residual_block(kind):
    """Causal in its input and at the place itself in the auxiliary one; rows, pixels: the same."""
    layer = GatedResidualBlock(kind, auxiliary=True)
    keras.utils.set_random_seed(3)
    layer.build([(None, *SIZE, 3), (None, *SIZE, 5)])
    x, a = maps(3), maps(5, seed=1)
    down = kind == "down"
    seen = influence(lambda v: layer([v, np.zeros((len(v), *SIZE, 5), "f4")]), (*SIZE, 3))
    assert not (seen.any((2, 5)) & ~before(SIZE, inclusive=True, row_only=down)).any()
    side = influence(lambda v: layer([np.zeros((len(v), *SIZE, 3), "f4"), v]), (*SIZE, 5))
    assert not (side.any((2, 5)) & ~before(SIZE, inclusive=True, row_only=down)).any()
    expected, width = np.array(layer([x, a])), SIZE[1]
    kept = (ops.zeros((2, width, 6)),) * 2
    for i in range(SIZE[0]):
        if down:
            row, kept = layer.row(ops.convert_to_tensor(x[:, i]), a[:, i], kept)
            np.testing.assert_allclose(row, expected[:, i], atol=1e-5)
            continue
        above, left, columns = layer.above(kept), (ops.zeros((2, 6)),) * 2, []
        for j in range(width):
            own = tuple(v[:, j] for v in above)
            y, left = layer.here(ops.convert_to_tensor(x[:, i, j]), a[:, i, j], left, own)
            np.testing.assert_allclose(y, expected[:, i, j], atol=1e-5)
            columns.append(left)
        kept = tuple(ops.stack(v, axis=1) for v in zip(*columns))


def test_kernels_can_be_fixed():
    x = keras.Input((*SIZE, 2))
    layer = MaskedConv2D(3, 3, name="conv")
    model = keras.Model(x, layer(x))
    old = np.array(kernel_of(layer))
    with fixed_kernels(model):
        layer.kernel.assign(ops.zeros_like(layer.kernel))
        np.testing.assert_array_equal(kernel_of(layer), old)
    assert not np.array(kernel_of(layer)).any()
