"""Small networks in PyTorch with the weights of Keras networks, and PyTorch's side of a training.

Two differences are taken away here, so that everything else can be compared:

- Strided convolutions with "same" padding pad below and to the right first in Keras, evenly in
  PyTorch. `SameConv2d` pads as Keras.
- Moving variances are of biased batch variances in Keras, of unbiased ones, n / (n - 1) times as
  large, in PyTorch (and in algorithm 2 of the paper, https://arxiv.org/abs/1502.03167).
  `track_biased_variance` makes PyTorch follow Keras; gradients and outputs in training do not
  depend on it.
"""

import keras
import numpy as np
import torch
import torch.nn.functional as F
from lightly.loss import (
    BarlowTwinsLoss,
    DCLLoss,
    DCLWLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from lightly.models.batchnorm import SplitBatchNorm
from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead, SwaVPrototypes
from lightly.models.modules.heads import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    NNCLRPredictionHead,
    NNCLRProjectionHead,
    ProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
    VICRegProjectionHead,
)
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.modules.nn_memory_bank import NNMemoryBankModule
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import nn

__all__ = [
    "BYOLPredictionHead",
    "BYOLProjectionHead",
    "BarlowTwinsLoss",
    "BarlowTwinsProjectionHead",
    "DCLLoss",
    "DCLWLoss",
    "F",
    "MemoryBankModule",
    "MoCoProjectionHead",
    "NNCLRPredictionHead",
    "NNCLRProjectionHead",
    "NNMemoryBankModule",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "ProjectionHead",
    "SimCLRProjectionHead",
    "SimSiamPredictionHead",
    "SimSiamProjectionHead",
    "SplitBatchNorm",
    "SwaVLoss",
    "SwaVPrototypes",
    "VICRegLoss",
    "VICRegProjectionHead",
    "deactivate_requires_grad",
    "nn",
    "torch",
    "update_momentum",
]

torch.set_num_threads(1)


class SameConv2d(nn.Conv2d):
    """A convolution without padding of its own, on images padded as TensorFlow's "SAME"."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads.append((total // 2, total - total // 2))
        return super().forward(F.pad(x, (*pads[1], *pads[0])))


class Groups(nn.Module):
    """A network that sees a batch of n groups with the samples of the groups in turn.

    `SplitBatchNorm` counts every n-th sample to a group; elsewhere groups lie one behind the other.
    """

    def __init__(self, network, groups):
        super().__init__()
        self.network, self.groups = network, groups

    def forward(self, x):
        order = torch.arange(len(x)).reshape(self.groups, -1).T.flatten()
        return self.network(x[order])[torch.argsort(order)]


def backbone(ours, groups=1):
    """The twin of a `Backbone` of convolutions, batch normalisations and ReLUs in a line."""
    layers = []
    for layer in ours.network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            shape = layer.kernel.shape
            assert layer.padding == "same" and not layer.use_bias
            layers.append(SameConv2d(shape[2], shape[3], shape[:2], layer.strides, bias=False))
        elif isinstance(layer, keras.layers.BatchNormalization):
            width = layer.moving_mean.shape[0]
            split = groups > 1
            layers.append(SplitBatchNorm(width, groups) if split else nn.BatchNorm2d(width))
        elif isinstance(layer, keras.layers.ReLU):
            layers.append(nn.ReLU())
        else:
            assert isinstance(layer, keras.layers.InputLayer)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = copy_weights(ours.network, nn.Sequential(*layers, *pool))
    return Groups(network, groups) if groups > 1 else network


def copy_weights(ours, theirs):
    """Give a PyTorch network the weights of a Keras network with the same layers in order.

    Biases, gains and offsets that the Keras network lacks become 0 and 1 and are kept there.
    """
    with torch.no_grad():
        for layer, module in _pairs(ours, theirs):
            own = _weights(layer)
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers()]:
                if name in own:
                    tensor.copy_(_repeated(own[name], tensor))
                elif name != "num_batches_tracked":
                    tensor.fill_(1.0 if name == "weight" else 0.0).requires_grad_(False)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert (module.eps, 1 - module.momentum) == (layer.epsilon, layer.momentum)
                track_biased_variance(module)
    return theirs


def differences(ours, theirs):
    """Largest difference of each weight of two networks with the same layers, by its name."""
    found = {}
    theirs.eval()  # `SplitBatchNorm` then averages its moving statistics over groups
    for layer, module in _pairs(ours, theirs):
        values = dict([*module.named_parameters(recurse=False), *module.named_buffers()])
        for name, own in _weights(layer).items():
            other = values[name].detach().numpy()
            found[f"{ours.name}/{layer.name}/{name}"] = np.abs(_repeated(own, other) - other).max()
    return found


def track_biased_variance(module):
    """Let a batch normalisation move its variance towards the biased variance of the batch."""

    def remember(module, inputs):
        module.before = module.running_var.clone()

    def correct(module, inputs, outputs):
        if module.training:
            count = inputs[0].numel() // module.running_var.numel()
            old = (1 - module.momentum) * module.before
            module.running_var = old + (module.running_var - old) * (count - 1) / count

    module.register_forward_pre_hook(remember)
    module.register_forward_hook(correct)


def train(modules, step_loss, batches, after_step=lambda step: None, **settings):
    """Losses of SGD steps on `modules`; `step_loss(step, *views)` gets views of channels first."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.SGD(parameters, **settings), []
    for step, views in enumerate(batches):
        views = [torch.tensor(np.moveaxis(view, -1, 1)).contiguous() for view in views]
        optimizer.zero_grad()
        loss = step_loss(step, *views)
        loss.backward()
        optimizer.step()
        after_step(step)
        losses.append(loss.item())
    return losses


def _pairs(ours, theirs):
    """Layers with weights of both networks, in order."""
    layers = [layer for layer in ours.layers if layer.weights]
    kinds = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
    return zip(layers, [m for m in theirs.modules() if isinstance(m, kinds)], strict=True)


def _weights(layer):
    """Weights of a Keras layer by the names and in the shapes of PyTorch."""
    names = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "kernel": "weight",
        "bias": "bias",
    }
    found = {names[v.name]: keras.ops.convert_to_numpy(v) for v in layer.weights}
    if "kernel" in {v.name for v in layer.weights}:
        found["weight"] = np.moveaxis(found["weight"], (-1, -2), (0, 1))
    return found


def _repeated(own, other):
    """`own` as often as `other` holds it: `SplitBatchNorm` has statistics for each group."""
    repeats = other.shape[0] // own.shape[0]
    tiled = np.tile(own, (repeats, *[1] * (own.ndim - 1)))
    return torch.tensor(tiled) if isinstance(other, torch.Tensor) else tiled
