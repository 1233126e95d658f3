"""Three steps of MoCo v3 equal those of the authors' order of operations in PyTorch.

The other side is written out here from the paper's algorithm 1 and the order of the authors' code:
queries, then the key encoder's move, then keys, then the optimizer. The method moves it after each
step instead; the keys of every step and the state at the end must be the same.
"""

import copy
import math

import pytest
from test_against_lightly import STEPS, WIDTH, batches, check, train
from toys import tiny_backbone

import keras_ssl
from keras_ssl.layers import heads

pytestmark = pytest.mark.slow

TEMPERATURE, START = 0.3, 0.7


def head(twin, *widths, output_norm):
    """Linear layers without biases, batch normalisation and ReLU between them."""
    layers = []
    for before, after in zip(widths, widths[1:]):
        layers += [twin.nn.Linear(before, after, bias=False), twin.nn.BatchNorm1d(after)]
        layers += [twin.nn.ReLU()]
    layers = layers[:-2]
    if output_norm:
        layers.append(twin.nn.BatchNorm1d(widths[-1], affine=False))
    return twin.nn.Sequential(*layers)


def contrast(twin, query, key):
    """The authors' loss of one order of the views: the key of the own image is the right class."""
    scores = twin.F.normalize(query, dim=1) @ twin.F.normalize(key, dim=1).T
    own = twin.torch.arange(len(query))
    return 2 * TEMPERATURE * twin.F.cross_entropy(scores / TEMPERATURE, own)


@pytest.mark.parametrize("hidden, last", [((12,), None), ((12, 10), "plain")])
def test_moco_v3(twin, hidden, last):
    """Heads of the form for convolutional networks, and of that for transformers."""
    start = {"kernel_initializer": "lecun_normal"}
    projector = heads.mlp(WIDTH, (*hidden, 6), output_norm="plain", **start)
    predictor = heads.mlp(6, (12, 6), output_norm=last, name="predictor", **start)
    model = keras_ssl.MoCoV3(
        tiny_backbone(), projector, predictor, temperature=TEMPERATURE, momentum=START
    )
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(projector, head(twin, WIDTH, *hidden, 6, output_norm=True))
    predictor = twin.copy_weights(predictor, head(twin, 6, 12, 6, output_norm=last))
    first = copy.deepcopy(backbone)
    followers = [copy.deepcopy(network) for network in (backbone, projector)]

    def move(step):
        momentum = 1 - (1 - START) * (1 + math.cos(math.pi * step / STEPS)) / 2
        for network, follower in zip((backbone, projector), followers):
            for own, other in zip(network.parameters(), follower.parameters()):
                other.copy_(other * momentum + own * (1 - momentum))

    def step_loss(step, view1, view2):
        query1, query2 = (predictor(projector(backbone(view))) for view in (view1, view2))
        with twin.torch.no_grad():
            move(step)
            key1, key2 = (followers[1](followers[0](view)) for view in (view1, view2))
        return contrast(twin, query1, key2) + contrast(twin, query2, key1)

    made, lr = batches(), 0.1
    theirs = twin.train([backbone, projector, predictor], step_loss, made, lr=lr)
    ours = train(model, made, lr)
    check(
        twin,
        ours,
        theirs,
        [
            (model.backbone.network, backbone),
            (model.projector, projector),
            (model.predictor, predictor),
            (model.key_backbone.network, followers[0]),
            (model.key_projector, followers[1]),
        ],
    )
    moved = twin.differences(model.key_backbone.network, first)
    assert max(v for name, v in moved.items() if name.endswith("weight")) > 1e-3
