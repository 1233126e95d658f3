import keras
import numpy as np
import pytest

from keras_ssl.backbones import resnet18, resnet34, resnet50, small_conv
from keras_ssl.layers.norm import BatchNormalization

MAKERS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def _trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize(
    ("name", "stem", "count"),
    [
        ("resnet18", "imagenet", 11_176_512),
        ("resnet34", "imagenet", 21_284_672),
        ("resnet50", "imagenet", 23_508_032),
        ("resnet18", "cifar", 11_168_832),
    ],
)
def test_parameter_counts_are_the_published_ones(name, stem, count):
    backbone = MAKERS[name]((64, 64, 3), stem=stem)
    assert _trainable(backbone) == count
    moving = sum(int(np.prod(v.shape)) for v in backbone.non_trainable_variables)
    gains = sum(v.shape[0] for v in backbone.trainable_variables if len(v.shape) == 1)
    assert moving == gains  # as many moving means and variances as gammas and betas


def test_the_stems_differ_by_their_kernels_only():
    difference = _trainable(resnet18((64, 64, 3), "imagenet")) - _trainable(resnet18((32, 32, 3)))
    assert difference == 3 * 64 * (7 * 7 - 3 * 3)


@pytest.mark.parametrize(("side", "stem"), [(32, "cifar"), (63, "cifar"), (64, "imagenet")])
def test_stem_follows_the_image_size(side, stem):
    kernel = resnet18((side, side, 3)).network.get_layer("stem_conv").kernel
    assert kernel.shape[0] == {"cifar": 3, "imagenet": 7}[stem]


def test_map_sizes():
    assert resnet18((32, 32, 3)).network.compute_output_shape((1, 32, 32, 3))[1:3] == (4, 4)
    big = resnet50((224, 224, 3))
    assert big.network.compute_output_shape((1, 224, 224, 3)) == (1, 7, 7, 2048)


def test_stride_of_resnet50_is_in_its_3x3_convolution():
    network = resnet50((64, 64, 3)).network
    assert network.get_layer("stage2_block1_1_conv").strides == (1, 1)
    assert network.get_layer("stage2_block1_2_conv").strides == (2, 2)


def test_kernels_start_with_variance_two_over_fan_out():
    for layer in resnet18((32, 32, 3)).network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            size, _, _, filters = layer.kernel.shape
            expected = (2 / (size * size * filters)) ** 0.5
            np.testing.assert_allclose(np.std(layer.kernel), expected, rtol=0.06)


def test_zero_init_makes_blocks_identities():
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")
    network = resnet18((16, 16, 3), zero_init_residual=True).network
    stem = network.get_layer("stem_relu").output
    block = network.get_layer("stage1_block2_out").output
    before, after = keras.Model(network.input, [stem, block])(images)
    np.testing.assert_array_equal(before, after)


def test_all_batch_normalisation_is_ours():
    layers = [x for x in resnet50((32, 32, 3)).network.layers if "_bn" in x.name]
    assert len(layers) == 53
    assert all(isinstance(layer, BatchNormalization) for layer in layers)
    assert {(layer.momentum, layer.epsilon) for layer in layers} == {(0.9, 1e-5)}


def test_other_sizes_can_be_fed():
    backbone = resnet18((32, 32, 3))
    assert tuple(backbone(np.zeros((1, 20, 26, 3), "float32")).shape) == (1, 512)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`stem` must be one of"):
        resnet18((32, 32, 3), stem="tiny")
    with pytest.raises(ValueError, match="`input_shape` must be"):
        resnet18((32, 32))


# A second implementation, in NumPy, with PyTorch's rules for padding.


def _np_conv(x, kernel, stride, padding):
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    size = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("bhwcij,ijco->bhwo", windows[:, ::stride, ::stride], kernel, optimize=True)


def _np_max_pool(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return windows[:, ::2, ::2].max(axis=(-2, -1))


def _np_conv_bn(network, name, x, stride, relu=True, padding=None):
    kernel = np.asarray(network.get_layer(f"{name}_conv").kernel, "float64")
    gamma, beta, mean, variance = network.get_layer(f"{name}_bn").get_weights()
    x = _np_conv(x, kernel, stride, padding or (kernel.shape[0] // 2,) * 2)
    x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    return np.maximum(x, 0) if relu else x


def _np_resnet(network, x, depths, bottleneck):
    x = _np_max_pool(_np_conv_bn(network, "stem", x, 2))
    for stage, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            name = f"stage{stage}_block{i}"
            stride = 2 if stage > 1 and i == 1 else 1
            if bottleneck:
                y = _np_conv_bn(network, f"{name}_1", x, 1)
                y = _np_conv_bn(network, f"{name}_2", y, stride)
                y = _np_conv_bn(network, f"{name}_3", y, 1, relu=False)
            else:
                y = _np_conv_bn(network, f"{name}_1", x, stride)
                y = _np_conv_bn(network, f"{name}_2", y, 1, relu=False)
            if x.shape != y.shape:
                x = _np_conv_bn(network, f"{name}_shortcut", x, stride, relu=False)
            x = np.maximum(x + y, 0)
    return x


@pytest.mark.parametrize(
    ("name", "depths"), [("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))]
)
def test_features_are_those_of_pytorchs_rules(name, depths):
    rng = np.random.default_rng(0)
    backbone = MAKERS[name]((64, 64, 3), stem="imagenet")
    images = rng.uniform(size=(2, 64, 64, 3)).astype("float32")
    for layer in backbone.network.layers:
        if isinstance(layer, BatchNormalization):
            width = layer.gamma.shape[0]
            layer.set_weights([rng.uniform(0.5, 1.5, width) for _ in range(4)])
    expected = _np_resnet(backbone.network, images.astype("float64"), depths, name == "resnet50")
    found = np.asarray(backbone.feature_map(images))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_small_conv():
    backbone = small_conv()
    assert _trainable(backbone) == 388_896
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    x = images.astype("float64")
    x = _np_conv_bn(backbone.network, "stage1", x, 1)
    for i in range(2, 5):  # where stride is 2, Keras pads even sides at their end alone
        x = _np_conv_bn(backbone.network, f"stage{i}", x, 2, padding=(0, 1))
    np.testing.assert_allclose(backbone.feature_map(images), x, rtol=1e-3, atol=1e-5)
    assert small_conv((16, 16, 1), widths=(8, 16)).feature_dim == 16
    with pytest.raises(ValueError, match="`widths`"):
        small_conv(widths=())
