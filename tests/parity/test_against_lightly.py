"""Three steps of training equal those of an independent implementation, losses and all weights.

The other side is PyTorch, with losses, heads, memory banks and momentum updates of lightly. Both
start with the same weights and see the same views. Where lightly goes another way than the paper,
its part is set to the paper's way, and the test says so; see `torch_twin` for two differences of
the frameworks.
"""

import copy
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import tiny_backbone

import keras_ssl
from keras_ssl import optimizers
from keras_ssl.layers import heads, shuffle
from keras_ssl.methods.swav import SwAV

pytestmark = pytest.mark.slow

STEPS, BATCH, WIDTH = 3, 16, 8
TOLERANCE = 1e-4


def batches(sizes=(8, 8), seed=0):
    """Views of three batches: images that differ, and views of an image that resemble it."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(STEPS):
        bases = rng.random((BATCH, 8, 8, 3))
        views = [bases + 0.2 * rng.standard_normal(bases.shape) for _ in sizes]
        crops = [view[:, :size, :size] for view, size in zip(views, sizes)]
        made.append(tuple(np.clip(crop, 0, 1).astype("float32") for crop in crops))
    return made


def train(model, made, lr, momentum=0.0, weight_decay=0.0, **more):
    """The loss of each step of `fit`, which shows running means; `more` stands in the batches."""
    model.compile(optimizers.SGD(lr, momentum, weight_decay))
    means = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: means.append(logs["loss"])
    )
    views = tuple(np.concatenate(parts) for parts in zip(*made))
    dataset = tf.data.Dataset.from_tensor_slices({"views": views, **more})
    dataset = dataset.batch(BATCH, True)
    model.fit(dataset, epochs=1, verbose=0, callbacks=[callback])
    totals = np.arange(1, STEPS + 1) * np.array(means)
    return np.diff(totals, prepend=0.0)


def check(twin, ours, theirs, pairs):
    """The loss of each step and all weights agree."""
    # Losses near 0 are differences of running means: those have an absolute error.
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=1e-6)
    found = {}
    for network, module in pairs:
        found |= twin.differences(network, module)
    assert max(found.values()) < TOLERANCE, found


def test_simclr(twin):
    """lightly's head shifts its outputs (an offset in the last normalisation).

    The authors' code does not, nor do we: it is held at zero.
    """
    model = keras_ssl.SimCLR(tiny_backbone(), temperature=0.2)
    backbone = twin.backbone(model.backbone)
    head = twin.copy_weights(model.projector, twin.SimCLRProjectionHead(WIDTH, WIDTH, 128))
    criterion = twin.NTXentLoss(temperature=0.2)

    def step_loss(step, view1, view2):
        # Both views are one batch, for batch normalisation (algorithm 1 of the paper); lightly's
        # examples pass one after the other.
        return criterion(*head(backbone(twin.torch.cat([view1, view2]))).chunk(2))

    made, settings = batches(), {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    start = copy.deepcopy(backbone)
    theirs = twin.train([backbone, head], step_loss, made, **settings)
    ours = train(model, made, **settings)
    check(twin, ours, theirs, [(model.backbone.network, backbone), (model.projector, head)])
    assert max(twin.differences(model.backbone.network, start).values()) > 100 * TOLERANCE


def test_byol(twin):
    """lightly's heads have an offset in their last layer; the authors' do not: it is held at zero.

    lightly's example takes the mean of both cosines for a loss; here it is the paper's (equation 2,
    both orders of the views), with four times its gradient. The teacher's momentum after step n,
    counted from 0, is that of n, as in the authors' code.
    """
    projector, predictor = (
        heads.mlp(width, (12, 6), output_norm=None, kernel_initializer="lecun_normal", name=name)
        for name, width in (("projector", WIDTH), ("predictor", 6))
    )
    model = keras_ssl.BYOL(tiny_backbone(), projector, predictor, momentum=0.8)
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(model.projector, twin.BYOLProjectionHead(WIDTH, 12, 6))
    predictor = twin.copy_weights(model.predictor, twin.BYOLPredictionHead(6, 12, 6))
    followers = [copy.deepcopy(network) for network in (backbone, projector)]
    for network in followers:
        twin.deactivate_requires_grad(network)
    criterion = twin.NegativeCosineSimilarity()

    def step_loss(step, *views):
        predictions = [predictor(projector(backbone(view))) for view in views]
        targets = [followers[1](followers[0](view)) for view in views]
        cosines = criterion(predictions[0], targets[1]) + criterion(predictions[1], targets[0])
        return 4 + 2 * cosines

    def follow(step):
        m = 1 - 0.2 * (math.cos(math.pi * step / STEPS) + 1) / 2
        for network, follower in zip((backbone, projector), followers):
            twin.update_momentum(network, follower, m)

    made, settings = batches(), {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    networks = [backbone, projector, predictor]
    theirs = twin.train(networks, step_loss, made, follow, **settings)
    ours = train(model, made, **settings)
    check(
        twin,
        ours,
        theirs,
        [
            (model.backbone.network, backbone),
            (model.projector, projector),
            (model.predictor, predictor),
            (model.teacher_backbone.network, followers[0]),
            (model.teacher_projector, followers[1]),
        ],
    )


@pytest.mark.parametrize("groups", [1, 4])
def test_moco(twin, groups, monkeypatch):
    """lightly permutes the keys' batch but normalises all of it at once; MoCo by groups ("GPUs").

    `SplitBatchNorm` of lightly is the authors' of their CIFAR-10 demo. The order is given, as the
    views are. lightly moves the key encoder before a forward pass, we after a step; the next
    forward pass sees the same, and the last move is made here after the last step.
    """
    model = keras_ssl.MoCo(
        tiny_backbone(), temperature=0.2, queue_size=2 * BATCH, momentum=0.8, groups=groups
    )
    order = np.random.default_rng(3).permutation(BATCH)
    monkeypatch.setattr(shuffle.draws, "permutation", lambda key, size: order)
    backbone = twin.backbone(model.backbone, groups)
    head = twin.copy_weights(model.projector, twin.MoCoProjectionHead(WIDTH, WIDTH, 128))
    keys = [copy.deepcopy(network) for network in (backbone, head)]
    for network in keys:
        twin.deactivate_requires_grad(network)
    # The bank drops the rows of a batch that would go round its end; two batches fill this one.
    criterion = twin.NTXentLoss(temperature=0.2, memory_bank_size=(2 * BATCH, 128))
    criterion.memory_bank.bank.copy_(twin.torch.tensor(model.queue.keys.numpy()))

    def step_loss(step, view1, view2):
        key = keys[1](keys[0](view2[order]))[np.argsort(order)]
        return criterion(head(backbone(view1)), key)

    def follow(step):
        twin.update_momentum(backbone, keys[0], 0.8)
        twin.update_momentum(head, keys[1], 0.8)

    made, settings = batches(), {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    theirs = twin.train([backbone, head], step_loss, made, follow, **settings)
    ours = train(model, made, **settings)
    check(
        twin,
        ours,
        theirs,
        [
            (model.backbone.network, backbone),
            (model.projector, head),
            (model.key_backbone.network, keys[0]),
            (model.key_projector, keys[1]),
        ],
    )
    np.testing.assert_allclose(model.queue.keys, criterion.memory_bank.bank, atol=TOLERANCE)
    assert int(model.queue.pointer) == int(criterion.memory_bank.bank_ptr) == BATCH


@pytest.mark.parametrize("queue_size", [0, 2 * BATCH])
def test_swav(twin, queue_size):
    """Four views of two sizes, prototypes frozen for a step, and a queue that fills in two.

    lightly's prototypes have offsets, the authors' do not: they are taken away. lightly normalises
    prototypes before a forward pass, as the authors, and we after a step: here both are done, so
    that the last state can be compared. Without weight decay, as a frozen weight of ours has a
    gradient of zero, under which decay and its velocity would go on, and lightly's has none.
    """
    projector = heads.mlp(
        WIDTH, (12, 6), output_norm=None, use_bias=True, kernel_initializer="lecun_normal"
    )
    model = SwAV(
        tiny_backbone(), projector, num_prototypes=5, freeze_epochs=1 / STEPS, queue_size=queue_size
    )
    backbone = twin.backbone(model.backbone)
    blocks = [
        (WIDTH, 12, twin.nn.BatchNorm1d(12), twin.nn.ReLU(), True),
        (12, 6, None, None),
    ]
    head = twin.copy_weights(projector, twin.ProjectionHead(blocks))
    prototypes = twin.SwaVPrototypes(6, 5, n_steps_frozen_prototypes=1)
    prototypes.heads[0].bias = None
    with twin.torch.no_grad():
        prototypes.heads[0].weight.copy_(twin.torch.tensor(model.prototypes.numpy()))
    banks = [
        twin.MemoryBankModule((queue_size, 6), feature_dim_first=False)
        for _ in range(2)
        if queue_size
    ]
    for bank, queue in zip(banks, model.queues):
        bank.bank.copy_(twin.torch.tensor(queue.keys.numpy()))
    criterion = twin.SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05, sinkhorn_iterations=3)

    def step_loss(step, *views):
        prototypes.normalize()
        sizes = [twin.torch.cat(views[:2]), twin.torch.cat(views[2:])]
        z = twin.F.normalize(head(twin.torch.cat([backbone(size) for size in sizes])), dim=1)
        scores = prototypes(z, step).chunk(4)
        queued = [bank(own, update=True)[1] for bank, own in zip(banks, z.chunk(4))]
        if not queued or (step + 1) * BATCH <= queue_size:  # not full: not used (the authors)
            queued = None
        else:
            queued = [prototypes(rows, step) for rows in queued]
        return criterion(scores[:2], scores[2:], queued).squeeze()

    made, settings = batches((8, 8, 4, 4)), {"lr": 0.05, "momentum": 0.9}
    networks = [backbone, head, prototypes]
    theirs = twin.train(networks, step_loss, made, lambda _: prototypes.normalize(), **settings)
    ours = train(model, made, **settings)
    check(twin, ours, theirs, [(model.backbone.network, backbone), (model.projector, head)])
    np.testing.assert_allclose(
        model.prototypes, prototypes.heads[0].weight.detach(), atol=TOLERANCE
    )
    for bank, queue in zip(banks, model.queues):
        np.testing.assert_allclose(queue.keys, bank.bank, atol=TOLERANCE)
