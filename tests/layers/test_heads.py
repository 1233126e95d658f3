import keras
import numpy as np
import pytest

from keras_ssl.layers import heads, norm


def _kinds(model):
    return [type(layer).__name__ for layer in model.layers[1:]]


def test_default_is_the_projector_of_simclr():
    head = heads.mlp(512, (512, 128))
    assert _kinds(head) == ["Dense", "BatchNormalization", "ReLU", "Dense", "BatchNormalization"]
    assert head.count_params() == 512 * 512 + 4 * 512 + 512 * 128 + 3 * 128
    first, last = head.get_layer("projector_bn1"), head.get_layer("projector_bn2")
    assert isinstance(first, norm.BatchNormalization) and isinstance(last, norm.BatchNormalization)
    assert first.center and first.scale and last.scale and not last.center
    assert not any(layer.use_bias for layer in head.layers if isinstance(layer, keras.layers.Dense))


def test_kernels_are_normal_with_standard_deviation_one_hundredth():
    kernels = [w for w in heads.mlp(256, (256, 256)).get_weights() if w.ndim == 2]
    for kernel in kernels:
        np.testing.assert_allclose(kernel.std(), 0.01, rtol=0.05)
    assert not np.array_equal(*kernels)


def test_training_output_is_standardised_in_each_dimension():
    head = heads.mlp(16, (32, 8))
    out = np.asarray(head(np.random.default_rng(0).normal(size=(64, 16)), training=True))
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=0.05)


def test_variants():
    moco = heads.mlp(8, (8, 4), hidden_norm=False, output_norm=None, use_bias=True)
    assert _kinds(moco) == ["Dense", "ReLU", "Dense"]
    assert moco.count_params() == 8 * 8 + 8 + 8 * 4 + 4
    plain = heads.mlp(8, (8, 8, 4), output_norm="plain", name="predictor")
    last = plain.get_layer("predictor_bn3")
    assert not last.center and not last.scale
    wide = heads.mlp(300, (300,), output_norm=None, kernel_initializer="he_normal")
    np.testing.assert_allclose(np.std(wide.get_weights()[0]), (2 / 300) ** 0.5, rtol=0.05)


def test_hidden_layers_may_have_another_activation():
    head, x = heads.mlp(6, (5, 4), activation="gelu", hidden_norm=False), np.ones((2, 6), "float32")
    assert _kinds(head)[:3] == ["Dense", "Activation", "Dense"]
    hidden = head.layers[1](x)
    np.testing.assert_allclose(head.layers[2](hidden), keras.activations.gelu(hidden), rtol=1e-6)
    with pytest.raises(ValueError, match="`activation` must be one of.*'tanh'"):
        heads.mlp(8, (4,), activation="tanh")


def test_views_of_one_size_pass_as_one_batch_and_keep_their_places():
    calls = []
    network = lambda x, training: calls.append((x.shape, training)) or x[:, 0, 0]  # noqa: E731
    sizes = [4, 2, 4, 3]
    views = [np.full((5, size, size, 1), i, "float32") for i, size in enumerate(sizes)]
    outputs = heads.chain_views(views, network, training=True)
    assert [float(out[0, 0]) for out in outputs] == [0, 1, 2, 3]
    assert all(out.shape == (5, 1) for out in outputs)
    assert [tuple(shape) for shape, _ in calls] == [(10, 4, 4, 1), (5, 2, 2, 1), (5, 3, 3, 1)]
    assert all(training for _, training in calls)


def test_save_and_load(tmp_path):
    head, x = heads.mlp(6, (5, 4)), np.random.default_rng(0).normal(size=(7, 6)).astype("float32")
    head(x, training=True)  # moves the statistics
    head.save(tmp_path / "head.keras")
    again = keras.saving.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(again(x), head(x))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`input_dim` and `widths`"):
        heads.mlp(8, ())
    with pytest.raises(ValueError, match="`input_dim` and `widths`"):
        heads.mlp(8, (4, 0))
    with pytest.raises(ValueError, match="`output_norm`"):
        heads.mlp(8, (4,), output_norm="gamma")


def test_first_layers_share_weights_and_end_in_a_relu():
    head = heads.mlp(6, (5, 4, 3))
    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    head(x, training=True)
    for layers, width in ((1, 5), (2, 4)):
        first = heads.first_layers(head, layers)
        assert _kinds(first) == ["Dense", "BatchNormalization", "ReLU"] * layers
        assert all(any(w is v for v in head.weights) for w in first.weights)
        out = np.array(first(x))
        assert out.shape == (16, width) and (out >= 0).all() and (out > 0).any()
        rest = out
        for layer in head.layers[1 + 3 * layers :]:
            rest = layer(rest)
        np.testing.assert_allclose(rest, head(x), rtol=1e-4, atol=1e-5)


def test_no_layers_of_a_head_are_the_features():
    first = heads.first_layers(heads.mlp(6, (5, 4)), 0)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_array_equal(first(x), x)
    assert not first.weights


def test_first_layers_of_a_sequential_head_without_normalisation():
    head = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5), keras.layers.ReLU(), keras.layers.Dense(4)]
    )
    assert heads.first_layers(head, 1).output_shape == (None, 5)


@pytest.mark.parametrize("layers", [-1, 3])
def test_first_layers_are_counted(layers):
    with pytest.raises(ValueError, match=f"from 0 to 2.*Received: layers={layers}"):
        heads.first_layers(heads.mlp(6, (5, 4, 3)), layers)
