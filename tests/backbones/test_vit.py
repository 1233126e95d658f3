import math

import keras
import numpy as np
import pytest

from keras_ssl.backbones import (
    attention_maps,
    has_attention_maps,
    small_conv,
    until,
    vit,
    vit_base,
    vit_small,
    vit_tiny,
)
from keras_ssl.backbones.positions import sincos_positions

MOCO_V3 = {"positions": "sincos", "initializer": "glorot_uniform", "frozen_patches": True}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("maker", "width", "count"),
    [(vit_tiny, 192, 5_524_416), (vit_small, 384, 21_665_664), (vit_base, 768, 85_798_656)],
)
def test_parameter_counts_are_the_published_ones(maker, width, count):
    backbone = maker()
    assert backbone.count_params() == count and backbone.feature_dim == width


def test_any_size():
    backbone = vit(8, 2, 4, (16, 8, 3), name="of_mine")
    patches, tokens, block = 16 * 3 * 8 + 8, 8 + (4 * 2 + 1) * 8, 12 * 8 * 8 + 13 * 8
    assert backbone.count_params() == patches + tokens + 2 * block + 16
    assert backbone.kind == "tokens" and backbone.feature_dim == 8 and backbone.name == "of_mine"


@pytest.mark.parametrize(("side", "patch", "grid"), [(32, 4, 8), (96, 16, 6)])
def test_patch_follows_the_image_size(side, patch, grid):
    backbone = vit_tiny((side, side, 3))
    assert backbone.network.get_layer("patches").kernel.shape[0] == patch
    assert backbone.token_grid() == (grid, grid)


def _perturbed(shape, rng, **arguments):
    """A network whose biases and norms are not at their trivial start."""
    backbone = vit_tiny(shape, **arguments)
    backbone.set_weights(
        [w + 0.05 * rng.normal(size=w.shape).astype("float32") for w in backbone.get_weights()]
    )
    return backbone


def _np_norm(layer, x):
    gamma, beta = layer.get_weights()
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * gamma + beta


def _np_attention(layer, x):
    q, qb, k, kb, v, vb, o, ob = (w.astype("float64") for w in layer.get_weights())
    q, k, v = (
        np.einsum("btd,dhk->bhtk", x, w) + b[None, :, None] for w, b in ((q, qb), (k, kb), (v, vb))
    )
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhtk,hkd->btd", weights @ v, o) + ob


def _np_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_tokens_equal_a_second_implementation(rng):
    backbone = _perturbed((16, 16, 3), rng)
    net, images = backbone.network, rng.uniform(size=(2, 16, 16, 3)).astype("float32")
    kernel, bias = (w.astype("float64") for w in net.get_layer("patches").get_weights())
    patches = ((images - 0.5) / 0.25).reshape(2, 4, 4, 4, 4, 3).swapaxes(2, 3).reshape(2, 16, 48)
    x = patches @ kernel.reshape(48, -1) + bias
    token, positions = net.get_layer("tokens").get_weights()
    x = np.concatenate([np.repeat(token, 2, axis=0), x], axis=1) + positions
    for i in range(1, 13):
        block = f"block{i}_"
        y = _np_norm(net.get_layer(block + "norm1"), x)
        x = x + _np_attention(net.get_layer(block + "attention"), y)
        y = _np_norm(net.get_layer(block + "norm2"), x)
        y = _np_gelu(_dense(net.get_layer(block + "mlp1"), y))
        x = x + _dense(net.get_layer(block + "mlp2"), y)
    expected = _np_norm(net.get_layer("norm"), x)
    np.testing.assert_allclose(backbone(images), expected[:, 0], rtol=1e-3, atol=1e-3)
    expected_map = expected[:, 1:].reshape(2, 4, 4, -1)
    np.testing.assert_allclose(backbone.feature_map(images), expected_map, rtol=1e-3, atol=1e-3)


def _dense(layer, x):
    kernel, bias = layer.get_weights()
    return x @ kernel + bias


def test_positions_matter_and_average_pooling_leaves_the_class_token_out(rng):
    images = rng.uniform(size=(2, 16, 16, 3)).astype("float32")
    by_class = _perturbed((16, 16, 3), rng)
    mean = vit_tiny((16, 16, 3), pooling="avg")
    mean.set_weights(by_class.get_weights())
    expected = np.mean(by_class.feature_map(images), axis=(1, 2))
    np.testing.assert_allclose(mean(images), expected, rtol=1e-3, atol=1e-4)
    shifted = np.roll(images, 4, axis=1)  # the same patches elsewhere
    assert np.abs(by_class(images) - by_class(shifted)).max() > 1e-3


def test_other_sizes_get_resized_positions(rng):
    backbone = _perturbed((16, 24, 3), rng)
    assert backbone.token_grid() == (4, 6)
    images = rng.uniform(size=(2, 8, 12, 3)).astype("float32")
    assert tuple(backbone(images).shape) == (2, 192)
    assert tuple(backbone.feature_map(images).shape) == (2, 2, 3, 192)
    layer = backbone.network.get_layer("tokens")
    token, positions = layer.get_weights()
    layer.set_weights([token, np.ones_like(positions)])
    tokens = np.asarray(layer(np.zeros((1, 2, 3, 192), "float32")))
    np.testing.assert_allclose(tokens[0, 1:], 1, rtol=1e-5)  # constant positions stay constant
    np.testing.assert_allclose(tokens[0, 0], token[0, 0] + 1, rtol=1e-5)


def test_a_network_for_32_pixels_takes_48():
    backbone = vit(8, 2, 2, (32, 32, 3), registers=3)
    images = np.random.default_rng(0).uniform(size=(2, 48, 48, 3)).astype("float32")
    assert tuple(backbone(images).shape) == (2, 8)
    assert tuple(backbone.feature_map(images).shape) == (2, 12, 12, 8)


EXTRAS = {"registers": 3, "drop_path": 0.5, "layer_scale": 0.1}


def test_registers_take_part_and_have_no_place_in_the_map(rng, tmp_path):
    backbone = vit(8, 2, 2, (16, 16, 3), pooling="avg", **EXTRAS)
    assert backbone.num_prefix_tokens == 4 and backbone.token_grid() == (4, 4)
    images = rng.uniform(size=(2, 16, 16, 3)).astype("float32")
    expected = np.array(backbone(images))
    np.testing.assert_allclose(expected, np.mean(backbone.feature_map(images), (1, 2)), atol=1e-6)
    backbone.save(tmp_path / "vit.keras")
    loaded = keras.models.load_model(tmp_path / "vit.keras")
    assert loaded.num_prefix_tokens == 4
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    np.testing.assert_allclose(backbone.to_functional()(images), expected, atol=1e-5)
    cut = until(backbone, "block1_add2")
    assert cut.num_prefix_tokens == 4 and cut.feature_map(images).shape == (2, 4, 4, 8)
    layer = backbone.network.get_layer("tokens")
    before = np.array(backbone(images))
    layer.registers.assign(rng.normal(size=(1, 3, 8)))
    assert np.abs(np.array(backbone(images)) - before).max() > 1e-4


def test_layer_scale_multiplies_both_branches(rng):
    scaled = vit(8, 1, 2, (8, 8, 3), layer_scale=0.25)
    plain = vit(8, 1, 2, (8, 8, 3))
    for layer in plain.network.layers:
        layer.set_weights(scaled.network.get_layer(layer.name).get_weights())
    assert scaled.count_params() == plain.count_params() + 2 * 8
    for name in ("block1_attention", "block1_mlp2"):  # their outputs are linear in these
        layer = plain.network.get_layer(name)
        *others, kernel, bias = layer.weights
        kernel.assign(0.25 * kernel)
        bias.assign(0.25 * bias)
    images = rng.uniform(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(plain(images), scaled(images), atol=1e-6)


def test_paths_are_dropped_in_training_alone_more_of_them_deeper(rng):
    backbone = vit(8, 3, 2, (16, 16, 3), drop_path=0.5)
    rates = [
        [backbone.network.get_layer(f"block{i}_drop_path{j}").rate for j in (1, 2)] for i in (2, 3)
    ]
    assert rates == [[0.25, 0.25], [0.5, 0.5]]
    salts = [layer.salt for layer in backbone._flatten_layers() if hasattr(layer, "salt")]
    assert len(set(salts)) == len(salts) == 4
    images = rng.uniform(size=(64, 16, 16, 3)).astype("float32")
    still, first, again = (np.array(backbone(images, training=t)) for t in (False, True, True))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[3:5], backbone(images[3:5], training=True), atol=1e-5)
    # All four branches are kept, and then larger, or some are missing: no image stays as it is.
    assert (np.abs(first - still).max(axis=1) > 1e-5).all()


@pytest.mark.parametrize("pooling", ["cls", "avg"])
def test_attention_maps_equal_a_second_implementation(rng, pooling):
    backbone = vit(8, 2, 2, (16, 16, 3), pooling=pooling, registers=1, layer_scale=0.5)
    backbone.set_weights([w + rng.normal(size=w.shape) / 2 for w in backbone.get_weights()])
    images = rng.integers(0, 256, (3, 16, 16, 3)).astype("uint8")
    maps = attention_maps(backbone, images)
    net, x = backbone.network, (images / np.float32(255) - 0.5) / 0.25
    tokens = np.array(keras.Model(net.input, net.get_layer("block2_norm1").output)(x))
    q, qb, k, kb = net.get_layer("block2_attention").get_weights()[:4]
    q, k = (np.einsum("btd,dhk->bhtk", tokens, w) + b[None, :, None] for w, b in ((q, qb), (k, kb)))
    weights = np.exp(q @ k.swapaxes(-1, -2) / 2)  # heads of width 4
    weights /= weights.sum(-1, keepdims=True)
    seen = weights[:, :, :1] if pooling == "cls" else weights[:, :, 2:]
    expected = seen.mean(2)[:, :, 2:].reshape(3, 2, 4, 4)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert maps.sum(axis=(2, 3)).max() < 1


def test_attention_of_other_networks_is_refused():
    assert not has_attention_maps(small_conv((16, 16, 3)))
    with pytest.raises(ValueError, match="`backbone` must be a vision transformer.*small_conv"):
        attention_maps(small_conv((16, 16, 3)), np.zeros((1, 16, 16, 3)))


def test_grey_images_and_no_normalisation():
    backbone = vit_tiny((16, 16, 1), mean=None, std=None)
    assert backbone.preprocessing is None
    assert tuple(backbone(np.zeros((1, 16, 16, 1), "float32")).shape) == (1, 192)


def test_gradients_reach_every_variable():
    backbone = vit_tiny((16, 16, 3), pooling="avg")
    model = keras.Sequential([keras.Input((16, 16, 3)), backbone, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    before = backbone.get_weights()
    images = np.random.default_rng(0).uniform(size=(4, 16, 16, 3)).astype("float32")
    model.fit(images, np.arange(4.0), verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, backbone.get_weights())]
    assert not any(same)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`patch_size` must divide"):
        vit_tiny((30, 32, 3))
    with pytest.raises(ValueError, match="`pooling`"):
        vit_tiny((16, 16, 3), pooling="max")
    with pytest.raises(ValueError, match="`heads` must divide .* 192.*heads=5"):
        vit_tiny((16, 16, 3), heads=5)
    with pytest.raises(ValueError, match="`depth` must be 1 or more.*depth=0"):
        vit(8, 0, 2, (16, 16, 3))
    with pytest.raises(ValueError, match="`registers` must be 0 or more.*-1"):
        vit(8, 1, 2, (16, 16, 3), registers=-1)
    with pytest.raises(ValueError, match=r"`drop_path` must be in \[0, 1\).*1.0"):
        vit(8, 1, 2, (16, 16, 3), drop_path=1.0)
    with pytest.raises(ValueError, match="`layer_scale` must be > 0.*layer_scale=0"):
        vit(8, 1, 2, (16, 16, 3), layer_scale=0)
    with pytest.raises(ValueError, match="positions='cosine'"):
        vit_tiny((16, 16, 3), positions="cosine")
    with pytest.raises(ValueError, match="initializer='xavier'"):
        vit_tiny((16, 16, 3), initializer="xavier")
    with pytest.raises(ValueError, match="`width` must be a multiple of 4.*6"):
        sincos_positions((2, 2), 6)


def test_sincos_positions_number_by_number():
    table = sincos_positions((2, 3), 8)
    for row in range(2):
        for column in range(3):
            waves = [
                wave(place * frequency)
                for place in (row, column)
                for wave in (math.sin, math.cos)
                for frequency in (1.0, 0.01)  # 10000^(-k / 2) for k = 0, 1
            ]
            np.testing.assert_allclose(table[3 * row + column], waves, atol=1e-6)


@pytest.fixture(scope="module")
def moco_v3():
    return vit_small((32, 32, 3), patch_size=8, heads=12, **MOCO_V3)


def test_start_of_moco_v3(moco_v3):
    """Bounds of the uniform numbers count fans as the authors: q, k and v as matrices of their own.

    A bound is reached to within 1 % by that many numbers, and the variance is a third of its
    square.
    """
    net = moco_v3.network
    attention = net.get_layer("block3_attention")
    query, key, value, output = (w for w in attention.get_weights() if w.ndim == 3)
    assert query.shape == (384, 12, 32)
    assert not any(np.array_equal(a, b) for a, b in [(query, key), (key, value), (query, value)])
    patches, bias = net.get_layer("patches").get_weights()
    kernels = [(k, 768) for k in (query, key, value, output)]
    kernels += [(net.get_layer(f"block3_mlp{i}").get_weights()[0], 5 * 384) for i in (1, 2)]
    kernels.append((patches, 3 * 64 + 384))
    for kernel, fans in kernels:
        limit = math.sqrt(6 / fans)
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        assert kernel.var() == pytest.approx(limit**2 / 3, rel=0.02)
    assert not bias.any()
    token, positions = net.get_layer("tokens").get_weights()
    assert 0 < np.abs(token).max() < 1e-5 and not positions[0, 0].any()
    np.testing.assert_array_equal(positions[0, 1:], sincos_positions((4, 4), 384))


def test_frozen_patches_and_fixed_positions_are_saved_and_taken_away(moco_v3, tmp_path):
    frozen = {"patches/kernel", "patches/bias", "tokens/positions"}

    def still(backbone):
        trained = {id(v) for v in backbone.trainable_variables}
        return {"/".join(v.path.split("/")[-2:]) for v in backbone.weights if id(v) not in trained}

    assert still(moco_v3) == frozen
    moco_v3.save(tmp_path / "vit.keras")
    loaded = keras.models.load_model(tmp_path / "vit.keras")
    assert still(loaded) == frozen == still(type(loaded).from_config(loaded.get_config()))
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    expected = moco_v3(images)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    np.testing.assert_allclose(moco_v3.to_functional()(images), expected, atol=1e-5)


def test_default_start_is_learned_and_unfrozen():
    backbone = vit_tiny((16, 16, 3))
    assert len(backbone.trainable_variables) == len(backbone.weights)
    assert backbone.network.get_layer("block1_attention").num_heads == 3
    positions = backbone.network.get_layer("tokens").positions.numpy()
    assert positions[0, 0].any() and positions.std() == pytest.approx(0.02, rel=0.15)
