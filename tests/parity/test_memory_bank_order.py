"""Three steps with a memory bank equal those of the authors' order of operations in PyTorch.

The other side is written out here after the authors' codes: for InstDisc lemniscate.pytorch, where
the bank's rows move inside the backward pass, from the embeddings of the forward pass and before
the optimizer steps; for PIRL VISSL, where patches come first, the images' scores are formed next,
and then the rows move. The constant Z is set by the first scores that are formed. Both sides start
with the same weights and rows, and see the same views and the same negatives, which here are one
list for the batch.
"""

import math

import numpy as np
import pytest
from keras import ops
from test_against_lightly import BATCH, STEPS, TOLERANCE, WIDTH, batches, check, train
from toys import tiny_backbone

import keras_ssl

pytestmark = pytest.mark.slow

IMAGES, DIM, NEGATIVES, TEMPERATURE, MOMENTUM = 24, 6, 20, 0.2, 0.4
SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3}


class Bank:
    """Rows, constant and losses as the authors write them."""

    def __init__(self, twin, rows):
        self.twin, self.rows, self.z = twin, twin.torch.tensor(rows), -1.0

    def probabilities(self, v, index, drawn):
        """exp(score) / Z of the own row, first, and of the drawn ones: `(N, 1 + K)`."""
        drawn = self.twin.torch.tensor(drawn).expand(len(v), -1)
        places = self.twin.torch.cat([index[:, None], drawn], dim=1)
        weights = self.rows[places.flatten()].view(len(v), -1, DIM)
        exponentials = (self.twin.torch.bmm(weights, v[:, :, None])[..., 0] / TEMPERATURE).exp()
        if self.z < 0:
            self.z = exponentials.mean().item() * IMAGES
        return exponentials / self.z

    def estimate(self, probabilities):
        """The sum of both logarithms of noise-contrastive estimation, over the batch."""
        noise = NEGATIVES / IMAGES
        own = probabilities[:, 0] / (probabilities[:, 0] + noise + 1e-7)
        others = noise / (probabilities[:, 1:] + noise + 1e-7)
        return -(own.log().sum() + others.log().sum()) / len(probabilities)

    def loss(self, v, index, drawn):
        """Over all rows where nothing is drawn."""
        if drawn is None:
            return self.twin.F.cross_entropy(v @ self.rows.T / TEMPERATURE, index)
        return self.estimate(self.probabilities(v, index, drawn))

    def follow(self, v, index):
        """Rows become the normalised mix of what they were and the embeddings."""
        mixed = self.rows[index] * MOMENTUM + v.detach() * (1 - MOMENTUM)
        self.rows = self.rows.index_copy(0, index, mixed / mixed.norm(dim=1, keepdim=True))


def setting(model, twin, negatives):
    """The images and the drawn rows of every step, and a bank, for both sides.

    Images come again in later steps. Rows start as the authors', uniform in a cube.
    """
    rng = np.random.default_rng(5)
    index = np.stack([rng.permutation(IMAGES)[:BATCH] for _ in range(STEPS)])
    drawn = rng.integers(IMAGES, size=(STEPS, NEGATIVES)) if negatives else [None] * STEPS
    side = math.sqrt(3 / DIM)
    rows = rng.uniform(-side, side, (IMAGES, DIM)).astype("float32")
    model.bank.rows.assign(rows)
    model.bank.draw = lambda step, count: ops.take(ops.convert_to_tensor(drawn), step, axis=0)
    return index, drawn, Bank(twin, rows)


def check_bank(model, bank, start, negatives):
    """Rows and constant agree; the rows have moved."""
    np.testing.assert_allclose(model.bank.rows, bank.rows, atol=TOLERANCE)
    assert np.abs(np.array(model.bank.rows) - start).max() > 100 * TOLERANCE
    z = bank.z if negatives else -1.0
    np.testing.assert_allclose(model.bank.partition, z, rtol=TOLERANCE)


@pytest.mark.parametrize("negatives", [NEGATIVES, 0])
def test_instdisc(twin, negatives):
    model = keras_ssl.InstDisc(
        tiny_backbone(),
        IMAGES,
        dim=DIM,
        temperature=TEMPERATURE,
        num_negatives=negatives,
        bank_momentum=MOMENTUM,
    )
    backbone = twin.backbone(model.backbone)
    head = twin.copy_weights(model.projector, twin.nn.Linear(WIDTH, DIM))
    index, drawn, bank = setting(model, twin, negatives)
    start = bank.rows.numpy().copy()

    def step_loss(step, view):
        own = twin.torch.tensor(index[step])
        v = twin.F.normalize(head(backbone(view)), dim=1)
        loss = bank.loss(v, own, drawn[step])
        v.register_hook(lambda gradient: bank.follow(v, own))  # inside the backward pass
        return loss

    made = batches((8,))
    theirs = twin.train([backbone, head], step_loss, made, **SETTINGS)
    ours = train(model, made, **SETTINGS, index=index.flatten())
    check(twin, ours, theirs, [(model.backbone.network, backbone), (model.projector, head)])
    check_bank(model, bank, start, negatives)


@pytest.mark.parametrize("transform, negatives", [("jigsaw", NEGATIVES), ("rotation", 0)])
def test_pirl(twin, transform, negatives):
    """Each side's weight of the transformed term is 0.3, so that the two cannot be exchanged."""
    model = keras_ssl.PIRL(
        tiny_backbone(),
        IMAGES,
        transform=transform,
        dim=DIM,
        weight=0.3,
        temperature=TEMPERATURE,
        num_negatives=negatives,
        bank_momentum=MOMENTUM,
    )
    parts, linear = model.num_parts, twin.nn.Linear
    layers = [linear(WIDTH, DIM), linear(parts * DIM, DIM)] if parts > 1 else [linear(WIDTH, DIM)]
    backbone = twin.backbone(model.backbone)
    image_head = twin.copy_weights(model.projector, linear(WIDTH, DIM))
    patch_head = twin.copy_weights(model.transform_projector, twin.nn.Sequential(*layers))
    index, drawn, bank = setting(model, twin, negatives)
    start = bank.rows.numpy().copy()

    def of_patches(patches):
        """Patches of an image are neighbours in the batch, and their outputs one vector."""
        together = twin.torch.stack(patches, dim=1).flatten(0, 1)
        x = layers[0](backbone(together))
        return layers[1](x.view(BATCH, -1)) if parts > 1 else x

    def step_loss(step, image, *patches):
        own, total = twin.torch.tensor(index[step]), 0.0
        outputs = [of_patches(patches), image_head(backbone(image))]
        for output, weight in zip(outputs, (0.3, 0.7)):
            v = twin.F.normalize(output, dim=1)
            total = total + weight * bank.loss(v, own, drawn[step])
        bank.follow(v, own)
        return total

    made = batches((8, 4, 4, 4, 4) if parts > 1 else (8, 8))
    theirs = twin.train([backbone, image_head, patch_head], step_loss, made, **SETTINGS)
    ours = train(model, made, **SETTINGS, index=index.flatten())
    pairs = [
        (model.backbone.network, backbone),
        (model.projector, image_head),
        (model.transform_projector, patch_head),
    ]
    check(twin, ours, theirs, pairs)
    check_bank(model, bank, start, negatives)
