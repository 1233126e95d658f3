"""What iBOT computes of images and hidden patches, and which of its state changes when."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from toys import images, tiny_backbone

import keras_ssl
from keras_ssl import IBOT, backbones, data, losses
from keras_ssl.ops import blocks, l2_normalize, sinkhorn


def ibot(pooling="cls", **options):
    """A transformer on 16 patches, and a head without batch normalisation."""
    backbone = backbones.vit(8, 2, 2, (8, 8, 3), 2, pooling=pooling)
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)], name="projector")
    options = {"num_prototypes": 12, "freeze_epochs": 0, "masked_views": 1.0, **options}
    return IBOT(backbone, head, **options)


def batch_of(n=6, small=0, seed=0):
    sizes = [8, 8] + [4] * small
    made = [images(n, (s, s, 3), seed + i, "float32") for i, s in enumerate(sizes)]
    noise = np.random.default_rng(seed).random((n, 2, blocks.SCATTERED_NUMBERS))
    made = tuple(map(ops.convert_to_tensor, made))
    return {"views": made, "mask_noise": ops.convert_to_tensor(noise, "float32")}


def found_in(model, batch, training=False):
    return {k: float(v) for k, v in model.compute_losses(batch, training).items()}


def cosines(features, head, prototypes):
    rows = head(ops.reshape(features, (-1, 8)))
    scores = ops.matmul(l2_normalize(rows), ops.transpose(l2_normalize(prototypes)))
    return ops.reshape(scores, (*features.shape[:-1], 12))


def tokens(model, view, hidden=None):
    return model._tokens(model._parts, view, False, hidden)


@pytest.mark.parametrize("small", [0, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_both_losses_are_those_of_the_equations(small, shared):
    """View by view, patch by patch; the teacher, equal at first, sees no mask."""
    model, batch = ibot(shared_head=shared, teacher_temperature=0.2), batch_of(small=small)
    model.center.assign(np.linspace(-0.5, 0.5, 12))
    model.patch_center.assign(np.linspace(0.3, -0.3, 12))
    head, own = model.projector, model.prototypes
    patch_head = head if shared else model.patch_projector
    patch_own = own if shared else model.patch_prototypes
    hidden = ops.split(model._hidden_patches(batch["mask_noise"]), 2)
    views, expected = batch["views"], 0.0
    student = [tokens(model, v, h) for v, h in zip(views, hidden)]
    teacher = [tokens(model, v) for v in views[:2]]
    vectors = [t[:, 0] for t in student] + [model.backbone(v) for v in views[2:]]
    scores = [cosines(x, head, own) for x in vectors]
    targets = [cosines(t[:, 0], head, own) for t in teacher]
    found = found_in(model, batch)
    expected = float(losses.dino(scores, targets, model.center, 0.2, 0.1))
    assert found["class_loss"] == pytest.approx(expected, rel=1e-4)
    expected = 0.0
    for s, t, mask in zip(student, teacher, hidden):
        q = losses.dino_targets(cosines(t[:, 1:], patch_head, patch_own), model.patch_center, 0.2)
        log_p = ops.log_softmax(cosines(s[:, 1:], patch_head, patch_own) / 0.1)
        per_patch = -np.array(ops.sum(q * log_p, axis=-1)) * np.array(mask)
        expected += (per_patch.sum(1) / np.maximum(1, np.array(mask).sum(1))).mean() / 2
    assert found["patch_loss"] == pytest.approx(expected, rel=1e-4)
    total = found["class_loss"] + found["patch_loss"]
    assert found["loss"] == pytest.approx(total, rel=1e-5)


def test_without_hidden_patches_it_is_dino():
    model, batch = ibot(masked_views=0.0, teacher_temperature=0.05), batch_of(small=2)
    same = keras_ssl.DINO(
        model.backbone,
        model.projector,
        num_prototypes=12,
        teacher_temperature=0.05,
        freeze_epochs=0,
    )
    for name in ("prototypes", "teacher_prototypes"):
        getattr(same, name).assign(model.prototypes)
    found = found_in(model, batch)
    expected = same.compute_losses(batch, training=False)
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert found["patch_loss"] == 0
    assert found["teacher_entropy"] == pytest.approx(float(expected["teacher_entropy"]), rel=1e-5)


def test_scores_that_do_not_tell_prototypes_apart_cost_log_k():
    """For patches times the share of views with hidden ones, here 7 of 12."""
    model, batch = ibot(masked_views=0.5), batch_of()
    share = np.array(model._hidden_patches(batch["mask_noise"])).any(axis=1).mean()
    assert 0 < share < 1
    for prototypes in (model.prototypes, model.teacher_prototypes):
        prototypes.assign(np.ones((12, 6)))
    found = found_in(model, batch)
    assert found["class_loss"] == pytest.approx(math.log(12), rel=1e-5)
    assert found["patch_loss"] == pytest.approx(math.log(12) * share, rel=1e-5)
    assert found["teacher_entropy"] == pytest.approx(math.log(12), rel=1e-5)


def test_the_token_hides_patches_from_the_student_alone():
    model, batch = ibot(), batch_of()
    hidden = model._hidden_patches(batch["mask_noise"])[:6]
    view = batch["views"][0]
    mask = np.kron(np.array(hidden).reshape(6, 4, 4), np.ones((2, 2)))[..., None]
    other = np.where(mask, 0.9, np.array(view)).astype("float32")
    first = np.array(tokens(model, view, hidden))
    np.testing.assert_allclose(tokens(model, other, hidden), first, atol=1e-6)
    assert np.abs(np.array(tokens(model, other)) - np.array(tokens(model, view))).max() > 1e-3


@pytest.mark.parametrize("pooling", ["cls", "avg"])
def test_an_images_vector_is_what_the_backbone_makes_of_it(pooling):
    model, (view, _) = ibot(pooling), batch_of()["views"]
    np.testing.assert_allclose(model._pooled(tokens(model, view)), model.backbone(view), atol=1e-6)


def test_centres_follow_the_teacher_after_the_loss():
    """Constant scores: c after n steps is (1 - 0.9^n) of them; one vector for all places."""
    model, batch = ibot(), batch_of()
    value = found_in(model, batch)
    assert not np.any(model.center) and not np.any(model.patch_center)
    assert found_in(model, batch, training=True) == pytest.approx(value)
    teacher = [tokens(model, v) for v in batch["views"]]
    scores = [cosines(t, model.projector, model.prototypes) for t in teacher]
    for n in range(2, 4):
        model.compute_losses(batch, training=True)
        share = 1 - 0.9**n
        expected = np.mean([np.array(s[:, 0]).mean(0) for s in scores], axis=0)
        np.testing.assert_allclose(model.center, share * expected, atol=1e-5)
        expected = np.mean([np.array(s[:, 1:]).mean((0, 1)) for s in scores], axis=0)
        np.testing.assert_allclose(model.patch_center, share * expected, atol=1e-5)


def test_sinkhorn_makes_targets_of_the_batch_even_without_centres():
    model, batch = ibot(centering="sinkhorn", teacher_temperature=0.1), batch_of()
    assert not hasattr(model, "center")
    teacher = [tokens(model, v)[:, 0] for v in batch["views"]]
    scores = cosines(ops.concatenate(teacher), model.projector, model.prototypes)
    codes = ops.split(sinkhorn(scores, 0.1, 3), 2)
    hidden = ops.split(model._hidden_patches(batch["mask_noise"]), 2)
    student = [tokens(model, v, h)[:, 0] for v, h in zip(batch["views"], hidden)]
    student = [cosines(s, model.projector, model.prototypes) for s in student]
    expected = float(losses.cross_view_cross_entropy(codes, student, 0.1))
    found = found_in(model, batch)
    assert found["class_loss"] == pytest.approx(expected, rel=1e-4)
    assert 0 < found["patch_loss"] < 10


def test_no_gradient_reaches_teacher_or_centres():
    model = ibot(shared_head=False, gram_weight=1.0, koleo_weight=0.1)
    networks = (model.teacher_backbone, model.teacher_projector, model.teacher_patch_projector)
    teacher = [v for network in networks for v in network.weights]
    teacher += [model.teacher_prototypes, model.teacher_patch_prototypes]
    values = [v.value for v in [*teacher, model.center, model.patch_center]]
    assert len(values) > 20
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        loss = model.compute_losses(batch_of(), training=True)["loss"]
    assert all(g is None for g in tape.gradient(loss, values))


def test_all_of_the_teacher_follows_all_of_the_student():
    model = ibot(momentum=0.0, shared_head=False)
    model.compile(keras.optimizers.SGD(0.1))
    first = [np.array(w) for w in model.get_weights()]
    model.fit(data.from_array(images(8)), batch_size=8, epochs=1, verbose=0)
    for prefix in ("backbone", "projector", "patch_projector"):
        both = (getattr(model, name) for name in (prefix, f"teacher_{prefix}"))
        for s, t in zip(*(network.get_weights() for network in both)):
            np.testing.assert_allclose(t, s, atol=1e-6)
    for prefix in ("prototypes", "patch_prototypes"):
        both = (np.array(getattr(model, name)) for name in (prefix, f"teacher_{prefix}"))
        np.testing.assert_allclose(*both, atol=1e-6)
    assert any(np.any(a != b) for a, b in zip(first, model.get_weights()))


def test_terms_of_dinov2_and_dinov3():
    batch, weights = batch_of(), {"koleo_weight": 0.3, "gram_weight": 2.0}
    keras.utils.set_random_seed(0)
    plain = ibot()
    keras.utils.set_random_seed(0)
    model = ibot(**weights)
    hidden = ops.split(model._hidden_patches(batch["mask_noise"]), 2)
    student = [tokens(model, v, h) for v, h in zip(batch["views"], hidden)]
    teacher = [tokens(model, v) for v in batch["views"]]
    koleo = sum(float(losses.koleo(s[:, 0])) for s in student)
    both = (ops.concatenate(x)[:, 1:] for x in (student, teacher))
    extra = 0.3 * koleo + 2.0 * float(losses.gram(*both))
    found = found_in(model, batch)["loss"]
    assert found == pytest.approx(found_in(plain, batch)["loss"] + extra, rel=1e-4)


def test_defaults():
    model = keras_ssl.create("ibot", (32, 32, 3), "small_vit")
    assert model.hidden == 32 and model.num_prototypes == 512
    made = model.default_views((32, 32))(ops.convert_to_tensor(images(1, (32, 32, 3))[0]), (0, 1))
    assert len(made["views"]) == 2 and made["mask_noise"].shape == (2, blocks.SCATTERED_NUMBERS)
    large = IBOT(backbones.vit(8, 1, 2, (96, 96, 3)), num_prototypes=16)
    widths = [w.shape[-1] for w in large.projector.weights if w.path.endswith("kernel")]
    assert widths == [2048, 2048, 256] and large.momentum == 0.996
    multi_crop = large.default_views((96, 96)).views
    assert multi_crop.counts == (1, 1, 10)
    scales = [pipeline.ops[0].scale for pipeline in multi_crop.pipelines]
    assert scales == [(0.25, 1.0), (0.25, 1.0), (0.05, 0.25)]


def test_wrong_arguments():
    wrong = {
        "num_prototypes": 1,
        "patch_weight": -1,
        "koleo_weight": -0.1,
        "gram_weight": -2,
        "masked_views": 1.5,
        "temperature": 0,
        "momentum": 1.5,
        "centering": "median",
        "max_mask_rate": 1.0,
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"`{name}` must be.*Received: .*{value}"):
            ibot(**{name: value})
    with pytest.raises(ValueError, match="`backbone` must be a vision transformer"):
        IBOT(tiny_backbone())
    batch = batch_of()
    with pytest.raises(ValueError, match="IBOT needs two views at least. Received: 1"):
        ibot().compute_losses({**batch, "views": batch["views"][:1]}, training=False)
