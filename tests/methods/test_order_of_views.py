"""Methods of several views, step by step as their authors' code (see `by_hand`)."""

import math

import numpy as np
import tensorflow as tf
from by_hand import (
    BATCH,
    SHAPE,
    STEPS,
    agree,
    batches,
    cosine,
    cross_entropy,
    descend,
    follow,
    unit,
)
from contract.cases import head
from toys import tiny_backbone

from keras_ssl import DINO, DeepClusterV2, LeJEPA, OBoW, SimDINO, VISReg
from keras_ssl.ops import draws

SIZES = (16, 16, 8)  # of views: two large and a small one
PAIRS = [(0, 1), (0, 2), (1, 0), (1, 2)]  # the teacher's view, and another of the student


def backbone():
    return tiny_backbone(SHAPE)


def features(network, views):
    """Features of all views, one after the other: a pass for the large ones, one for the others."""
    large = network(tf.concat(views[:2], axis=0), training=True)
    others = [network(view, training=True) for view in views[2:]]
    return tf.concat([large, *others], axis=0)


def embeddings(network, projector, views):
    """Unit vectors of each view; the projector has all views at once."""
    return tf.split(unit(projector(features(network, views), training=True)), len(views))


def follow_networks(model, names, decay):
    for name in names:
        own, teacher = getattr(model, name).weights, getattr(model, f"teacher_{name}").weights
        for s, t in zip(own, teacher):
            if s.trainable:  # statistics of the batch stay the teacher's own
                follow([t], [s], decay)


def test_dino():
    def by_hand(model, batch, step):
        views = batch["views"]
        with tf.GradientTape() as tape:
            z = embeddings(model.backbone, model.projector, views)
            t = embeddings(model.teacher_backbone, model.teacher_projector, views[:2])
            s = [each @ tf.transpose(unit(model.prototypes.value)) for each in z]
            t = [each @ tf.transpose(unit(model.teacher_prototypes.value)) for each in t]
            loss = 0.0
            for v, u in PAIRS:
                q = tf.stop_gradient(tf.nn.softmax((t[v] - model.center.value) / 0.04))
                loss += tf.reduce_mean(cross_entropy(q, s[u], 0.1)) / 4
        mean = tf.reduce_mean(tf.concat(t, axis=0), axis=0)
        model.center.assign(0.9 * model.center + 0.1 * mean)
        descend(model, tape, loss)
        decay = cosine(step, 0.8)
        follow_networks(model, ("backbone", "projector"), decay)
        follow([model.teacher_prototypes], [model.prototypes], decay)
        return loss

    def make():
        options = {"num_prototypes": 6, "momentum": 0.8, "freeze_epochs": 0}
        return DINO(backbone(), head(None), **options)

    agree(make, batches(SIZES), by_hand)


def test_simdino():
    def by_hand(model, batch, step):
        views = batch["views"]
        with tf.GradientTape() as tape:
            z = embeddings(model.backbone, model.projector, views)
            t = embeddings(model.teacher_backbone, model.teacher_projector, views[:2])
            alignment = 0.0
            for v, u in PAIRS:
                products = tf.reduce_sum(tf.stop_gradient(t[v]) * z[u], axis=-1)
                alignment += tf.reduce_mean(products) / 4
            rate, width = 0.0, z[0].shape[1]
            for v in range(2):
                moments = tf.eye(width) + width / (BATCH * 0.05) * tf.matmul(z[v], z[v], True)
                rate += tf.reduce_sum(tf.math.log(tf.linalg.diag_part(tf.linalg.cholesky(moments))))
            gamma = (width + BATCH) / (width * BATCH)
            loss = -alignment - gamma * rate / 2
        descend(model, tape, loss)
        follow_networks(model, ("backbone", "projector"), cosine(step, 0.8))
        return loss

    agree(lambda: SimDINO(backbone(), head(None), momentum=0.8), batches(SIZES), by_hand)


def test_deep_cluster_v2():
    def by_hand(model, batch, step):
        if step == 0:
            model.begin_epoch(None)
        labels = tf.gather(model.assignments, batch["index"])
        with tf.GradientTape() as tape:
            z = embeddings(model.backbone, model.projector, batch["views"])
            loss = 0.0
            for h in range(3):
                scores = tf.concat(z, axis=0) @ tf.transpose(model.prototypes[h].value) / 0.2
                targets = tf.tile(labels[:, h], [3])
                errors = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, scores)
                loss += tf.reduce_mean(errors) / 3
        for v in range(2):  # as they were before the step
            rows = np.array(model.banks[v].rows)
            rows[batch["index"]] = z[v]
            model.banks[v].rows.assign(rows)
        descend(model, tape, loss)
        return loss

    def make():
        options = {"num_prototypes": 4, "temperature": 0.2}
        model = DeepClusterV2(backbone(), STEPS * BATCH, head(None), **options)
        model.started.assign(1)  # with the random vectors of the banks
        return model

    index = np.random.default_rng(0).permutation(STEPS * BATCH).reshape(STEPS, BATCH)
    agree(make, batches(SIZES, index=index.astype("int32")), by_hand)


def test_obow():
    words, sharpness, scale = 24, 10.0, 5.0

    def by_hand(model, batch, step):
        whole, *crops = batch["views"]
        queue, generator = model.vocabularies[0], model.generators[0]
        vocabulary = tf.identity(queue.keys.value)  # of the step before, for all that follows
        maps = model.teacher_backbone.feature_map(whole, training=True)[:, 1:-1, 1:-1]
        side, width = maps.shape[1], maps.shape[3]
        flat = tf.reshape(maps, (BATCH, side * side, width))
        distances = tf.reduce_sum((flat[:, :, None] - vocabulary) ** 2, axis=-1)
        nearest = tf.reduce_mean(tf.reduce_min(distances, axis=-1))
        mean = 0.99 * model.mean_distances[0].value + 0.01 * nearest
        model.mean_distances[0].assign(mean)
        codes = tf.reduce_max(tf.nn.softmax(-sharpness / mean * distances, axis=-1), axis=1)
        bags = codes / tf.reduce_sum(codes, axis=1, keepdims=True)
        drawn = draws.integers(model.draw_key, BATCH, (side - 2) ** 2)
        rows = np.array(queue.keys)
        for i in range(BATCH):  # each takes the place of the oldest
            row, column = divmod(int(drawn[i]), side - 2)
            square = maps[i, row : row + 3, column : column + 3]
            place = (step * BATCH + i) % words
            rows[place] = tf.reduce_mean(square, axis=(0, 1))
        queue.keys.assign(rows)
        queue.pointer.assign((step + 1) * BATCH % words)
        queue.count.assign(min((step + 1) * BATCH, words))
        with tf.GradientTape() as tape:
            weights = unit(generator(unit(vocabulary), training=True))
            loss = 0.0
            for same in (crops[:2], crops[2:]):  # a pass for each size
                h = tf.split(model.backbone(tf.concat(same, axis=0), training=True), len(same))
                for each in h:
                    log_p = tf.nn.log_softmax(scale * each @ tf.transpose(weights))
                    divergence = tf.reduce_sum(bags * (tf.math.log(bags) - log_p), axis=1)
                    loss += tf.reduce_mean(divergence) / len(same)
        descend(model, tape, loss)
        decay = 1 - (1 - 0.8) * (math.cos(math.pi * (step + 1) / STEPS) + 1) / 2
        follow_networks(model, ("backbone",), decay)
        return loss

    def make():
        return OBoW(backbone(), words, 1, sharpness, scale, momentum=0.8)

    agree(make, batches((16, 16, 16, 8)), by_hand)


def by_sizes(model, views):
    """Embeddings of each view; views of one size pass backbone and projector as one batch."""
    z = []
    for same in (views[:2], views[2:]):
        both = model.backbone(tf.concat(same, axis=0), training=True)
        z += tf.split(model.projector(both, training=True), len(same))
    return z


def distance_from_centre(z):
    centre = (z[0] + z[1]) / 2  # of the large views
    return sum(tf.reduce_mean((each - centre) ** 2) for each in z) / len(z)


def test_lejepa():
    def by_hand(model, batch, step):
        slices = draws.slices(model.draw_key, 16, 32)
        t = tf.linspace(0.0, 3.0, 17)
        width = 3.0 / 16
        # The trapezoid rule from 0 to 3, twice: as from -3 to 3.
        quadrature = tf.constant([width] + 15 * [2 * width] + [width])
        normal = tf.exp(-(t**2) / 2)
        with tf.GradientTape() as tape:
            z = by_sizes(model, batch["views"])
            tests = 0.0
            for each in z:
                x = (each @ slices)[..., None] * t  # (B, S, points)
                error = (tf.reduce_mean(tf.cos(x), 0) - normal) ** 2
                error += tf.reduce_mean(tf.sin(x), 0) ** 2
                statistic = tf.linalg.matvec(error, quadrature * normal) * BATCH
                tests += tf.reduce_mean(statistic) / len(z)
            loss = 0.9 * distance_from_centre(z) + 0.1 * tests
        descend(model, tape, loss)
        return loss

    def make():
        return LeJEPA(backbone(), head(None), sigreg_weight=0.1, num_slices=32)

    agree(make, batches(SIZES), by_hand)


def test_visreg():
    def by_hand(model, batch, step):
        slices = draws.slices(model.draw_key, 16, 32)
        places = tf.range(1, BATCH + 1, dtype="float32") / (BATCH + 1)
        quantiles = math.sqrt(2) * tf.math.erfinv(2 * places - 1)
        with tf.GradientTape() as tape:
            z = by_sizes(model, batch["views"])
            centre = scale = shape = 0.0
            for each in z:
                mean = tf.reduce_mean(each, axis=0)
                std = tf.sqrt(tf.reduce_mean((each - mean) ** 2, axis=0))
                centre += tf.reduce_mean(mean**2) / len(z)
                scale += tf.reduce_mean((std - 1) ** 2) / len(z)
                x = (each - mean) / (tf.stop_gradient(std) + 1e-4) @ slices
                x = tf.sort(x, axis=0)
                shape += tf.reduce_mean((x - quantiles[:, None]) ** 2) / len(z)
            loss = 0.4 * distance_from_centre(z) + 0.6 * (centre + scale + shape)
        descend(model, tape, loss)
        return loss

    def make():
        return VISReg(backbone(), head(None), regularizer_weight=0.6, num_slices=32)

    agree(make, batches(SIZES), by_hand)
