"""Three steps of methods of two views equal those with lightly's losses and heads in PyTorch.

SimSiam, Barlow Twins, VICReg, NNCLR, DCL, LeJEPA and VISReg, as in `test_against_lightly`: the same
weights at the start, the same views, losses of each step and all weights at the end, statistics of
batch normalisation included. Where lightly goes another way than the paper, its part is set to the
paper's way, and the test says so.
"""

import copy

import numpy as np
import pytest
from test_against_lightly import BATCH, TOLERANCE, WIDTH, batches, check, train
from toys import tiny_backbone

import keras_ssl
from keras_ssl.layers import batch_norm, heads
from keras_ssl.ops import draws

pytestmark = pytest.mark.slow

SETTINGS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}


def head(widths, output_norm=None):
    return heads.mlp(WIDTH, widths, output_norm=output_norm, kernel_initializer="lecun_normal")


def compare(twin, model, networks, step_loss, made, **settings):
    """Train both sides, `networks` being pairs of ours and theirs; all must agree, and move."""
    start = copy.deepcopy(networks[0][1])
    theirs = twin.train([module for _, module in networks], step_loss, made, **settings)
    ours = train(model, made, **settings)
    check(twin, ours, theirs, networks)
    assert max(twin.differences(networks[0][0], start).values()) > 100 * TOLERANCE


@pytest.mark.parametrize("symmetric", [True, False])
def test_simsiam(twin, symmetric):
    """lightly's heads are the paper's; its example leaves the stopped gradient to the user."""
    model = keras_ssl.SimSiam(tiny_backbone(), head((12, 12, 16), "plain"), symmetric=symmetric)
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(model.projector, twin.SimSiamProjectionHead(WIDTH, 12, 16))
    predictor = twin.copy_weights(model.predictor, twin.SimSiamPredictionHead(16, 4, 16))
    criterion = twin.NegativeCosineSimilarity()

    def step_loss(step, *views):
        z1, z2 = (projector(backbone(view)) for view in views)
        there = criterion(predictor(z1), z2.detach())
        if not symmetric:
            return there
        return 0.5 * there + 0.5 * criterion(predictor(z2), z1.detach())

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    networks.append((model.predictor, predictor))
    compare(twin, model, networks, step_loss, batches(), **SETTINGS)


def test_barlow_twins(twin):
    """lightly's head has offsets in its last layer, which its loss takes away: held at zero."""
    model = keras_ssl.BarlowTwins(
        tiny_backbone(), head((12, 12, 6)), off_diagonal_weight=0.02, loss_scale=0.1
    )
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(model.projector, twin.BarlowTwinsProjectionHead(WIDTH, 12, 6))
    criterion = twin.BarlowTwinsLoss(lambda_param=0.02)

    def step_loss(step, *views):
        return 0.1 * criterion(*(projector(backbone(view)) for view in views))

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    compare(twin, model, networks, step_loss, batches(), **SETTINGS)


def test_vicreg(twin):
    """lightly's loss is that of the authors' code, as ours; offsets of its last layer are at zero.

    The authors' last layer has none: the loss does not depend on them.
    """
    weights = {"invariance_weight": 2.0, "variance_weight": 3.0, "covariance_weight": 0.5}
    model = keras_ssl.VICReg(tiny_backbone(), head((12, 12, 6)), **weights)
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(model.projector, twin.VICRegProjectionHead(WIDTH, 12, 6))
    criterion = twin.VICRegLoss(lambda_param=2.0, mu_param=3.0, nu_param=0.5)

    def step_loss(step, *views):
        return criterion(*(projector(backbone(view)) for view in views))

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    compare(twin, model, networks, step_loss, batches(), **SETTINGS)


def test_nnclr(twin):
    """The loss is the paper's, written out; heads, bank and neighbours are lightly's.

    lightly's example takes its NT-Xent, in which other images of the anchor's own view are
    negatives too; equation 2 of the paper has those of the other view alone. Its example puts the
    second view into the bank, the paper and we the first. Offsets of the predictor's last layer
    are held at zero: the paper is silent on them. Two batches fill the bank, as lightly's drops
    what would go round its end.
    """
    narrow = head((12, 12, 6))
    projector = type(narrow)(narrow.inputs, batch_norm()(narrow.output), name="projector")
    predictor = heads.mlp(6, (10, 6), output_norm=None, kernel_initializer="lecun_normal")
    model = keras_ssl.NNCLR(tiny_backbone(), projector, predictor, 0.2, queue_size=2 * BATCH)
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(projector, twin.NNCLRProjectionHead(WIDTH, 12, 6))
    predictor = twin.copy_weights(predictor, twin.NNCLRPredictionHead(6, 10, 6))
    bank = twin.NNMemoryBankModule((2 * BATCH, 6))
    bank.bank.copy_(twin.torch.tensor(model.queue.keys.numpy()))
    classes = twin.torch.arange(BATCH)

    def step_loss(step, *views):
        z = [projector(backbone(view)) for view in views]
        p1, p2 = (twin.F.normalize(predictor(own), dim=1) for own in z)
        z1, z2 = (twin.F.normalize(own.detach(), dim=1) for own in z)
        nn2, nn1 = bank(z2, update=False), bank(z1, update=True)
        there = twin.F.cross_entropy(nn1 @ p2.T / 0.2, classes)
        return (there + twin.F.cross_entropy(nn2 @ p1.T / 0.2, classes)) / 2

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    networks.append((model.predictor, predictor))
    compare(twin, model, networks, step_loss, batches(), **{**SETTINGS, "lr": 0.02})
    np.testing.assert_allclose(model.queue.keys, bank.bank, atol=TOLERANCE)
    assert int(model.queue.pointer) == int(bank.bank_ptr) == BATCH


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # lightly's weights
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_dcl(twin, sigma):
    """The weights of DCLW carry no gradient on either side.

    Both views are one batch, for batch normalisation; lightly's examples pass one after the other.
    Its head, SimCLR's, shifts its outputs: the offset is held at zero.
    """
    model = keras_ssl.DCL(tiny_backbone(), head((12, 6), "scale"), temperature=0.2, sigma=sigma)
    backbone = twin.backbone(model.backbone)
    projector = twin.copy_weights(model.projector, twin.SimCLRProjectionHead(WIDTH, 12, 6))
    criterion = twin.DCLWLoss(0.2, sigma) if sigma else twin.DCLLoss(0.2)

    def step_loss(step, *views):
        return criterion(*projector(backbone(twin.torch.cat(views))).chunk(2))

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    compare(twin, model, networks, step_loss, batches(), **SETTINGS)


def slices_of(twin, model, step):
    """Our directions of a step, of which lightly draws others."""
    key = draws.draw_key(model.run_seed, step)
    return twin.torch.tensor(np.array(draws.slices(key, 6, model.num_slices)))


def compare_on_slices(twin, model, view_loss):
    """Both views are one batch, for batch normalisation, as the authors'."""
    backbone = twin.backbone(model.backbone)
    blocks = [(WIDTH, 12, twin.nn.BatchNorm1d(12), twin.nn.ReLU(), False), (12, 6, None, None)]
    projector = twin.copy_weights(model.projector, twin.ProjectionHead(blocks))

    def step_loss(step, *views):
        z = projector(backbone(twin.torch.cat(views))).unflatten(0, (2, -1))  # (V, N, D)
        return view_loss(z, slices_of(twin, model, step))

    networks = [(model.backbone.network, backbone), (model.projector, projector)]
    compare(twin, model, networks, step_loss, batches(), **SETTINGS)


def test_lejepa(twin):
    """lightly's terms, put together here: which views count has changed between its versions."""
    theirs = pytest.importorskip("lightly.loss.lejepa_loss", reason="this lightly has no LeJEPA")
    model = keras_ssl.LeJEPA(tiny_backbone(), head((12, 6)), sigreg_weight=0.1, num_slices=20)
    sigreg = theirs.SIGReg(knots=17, t_max=3.0, num_vectors=20)

    def view_loss(z, slices):
        sigreg._generate_unit_vectors = lambda *arguments, **named: slices
        return 0.9 * theirs.lejepa_invariance_loss(z, z) + 0.1 * sigreg(z)

    compare_on_slices(twin, model, view_loss)


def test_visreg(twin, monkeypatch):
    """lightly's terms; its directions are normalised once more, which changes nothing."""
    theirs = pytest.importorskip("lightly.loss.visreg_loss", reason="this lightly has no VISReg")
    model = keras_ssl.VISReg(tiny_backbone(), head((12, 6)), 0.6, 0.5, 2.0, 3.0, num_slices=20)

    def view_loss(z, slices):
        monkeypatch.setattr(theirs.torch, "randn", lambda *shape, **named: slices)
        invariance = theirs.lejepa_loss.lejepa_invariance_loss(z, z)
        center, scale = theirs.visreg_center_loss(z), theirs.visreg_scale_loss(z)
        shape = theirs.visreg_shape_loss(z, num_slices=20)
        return 0.4 * invariance + 0.6 * (0.5 * center + 2.0 * scale + 3.0 * shape)

    compare_on_slices(twin, model, view_loss)
