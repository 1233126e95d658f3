"""Masked methods, step by step as their authors' code (see `by_hand`)."""

import keras
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
    noises,
    unit,
)

from keras_ssl import IBOT, IJEPA, MAE, SimMIM, backbones
from keras_ssl.methods.ijepa import ijepa_predictor
from keras_ssl.methods.mae import mae_decoder
from keras_ssl.ops import blocks


def transformer():
    return backbones.vit(8, 2, 2, SHAPE, 4, pooling="avg", registers=1)


def tokens_of(network, patches):
    """Transformer of tokens `(B, n, D)` after positions, by the backbone's own layers."""
    inner = keras.Model(network.get_layer("tokens").output, network.output)
    return inner(patches, training=True)


def embedded(backbone, pixels):
    """Maps of patches before positions."""
    return backbone.network.get_layer("patches")((pixels - 0.5) / 0.25)


def put_positions(backbone, grid):
    """Tokens of a map: class token, register, patches, with positions."""
    layer = backbone.network.get_layer("tokens")
    batch, rows, columns, width = grid.shape
    flat = tf.reshape(grid, (batch, rows * columns, width)) + layer.positions[:, 1:]
    token = tf.repeat(layer.class_token + layer.positions[:, :1], batch, axis=0)
    register = tf.repeat(tf.convert_to_tensor(layer.registers), batch, axis=0)
    return tf.concat([token, register, flat], axis=1)


def test_mae():
    def by_hand(model, batch, step):
        (pixels,), order = batch["views"], tf.argsort(batch["mask_noise"])
        with tf.GradientTape() as tape:
            tokens = put_positions(model.backbone, embedded(model.backbone, pixels))
            rows = []
            for i in range(BATCH):
                seen = [tokens[i, 2 + int(place)] for place in order[i, :4]]
                rows.append(tf.stack([tokens[i, 0], tokens[i, 1], *seen]))
            encoded = tokens_of(model.backbone.network, tf.stack(rows))
            predicted = model.decoder([encoded, tf.cast(order, "int32")], training=True)
            loss = 0.0
            for i in range(BATCH):
                for place in order[i, 4:].numpy():
                    row, column = 4 * (place // 4), 4 * (place % 4)
                    patch = pixels[i, row : row + 4, column : column + 4]
                    mean = tf.reduce_mean(patch)
                    variance = tf.reduce_sum((patch - mean) ** 2) / 47
                    target = tf.reshape((patch - mean) / tf.sqrt(variance + 1e-6), (-1,))
                    loss += tf.reduce_mean((predicted[i, place] - target) ** 2) / (12 * BATCH)
        descend(model, tape, loss)
        return loss

    def make():
        return MAE(transformer(), mae_decoder((4, 4), 8, 4, 48, 8, 1, 2, prefix=2))

    agree(make, batches((16,), mask_noise=noises(16)), by_hand)


def test_simmim():
    def by_hand(model, batch, step):
        (pixels,) = batch["views"]
        order = tf.argsort(batch["mask_noise"]).numpy()  # of the four units of 8 x 8 pixels
        with tf.GradientTape() as tape:
            grid = embedded(model.backbone, pixels)
            hidden = np.zeros((BATCH, 4, 4, 1), "float32")
            for i in range(BATCH):
                for unit_ in order[i, 1:]:  # ceil(0.6 * 4) = 3 of them
                    row, column = 2 * (unit_ // 2), 2 * (unit_ % 2)
                    hidden[i, row : row + 2, column : column + 2] = 1
            grid = grid * (1 - hidden) + model.mask_token.value * hidden
            tokens = tokens_of(model.backbone.network, put_positions(model.backbone, grid))
            predicted = model.head(tokens[:, 2:], training=True)
            loss = 0.0
            normalised = (pixels - 0.5) / 0.25
            for i in range(BATCH):
                for place in np.flatnonzero(hidden[i]):
                    row, column = 4 * (place // 4), 4 * (place % 4)
                    patch = normalised[i, row : row + 4, column : column + 4]
                    error = tf.abs(predicted[i, place] - tf.reshape(patch, (-1,)))
                    loss += tf.reduce_mean(error) / (12 * BATCH)
        descend(model, tape, loss)
        return loss

    agree(lambda: SimMIM(transformer()), batches((16,), mask_noise=noises(4)), by_hand)


def test_ijepa():
    def by_hand(model, batch, step):
        (pixels,) = batch["views"]
        sizes = (model.num_targets, model._target_sizes, model._context_sizes)
        places = blocks.multi_block(batch["mask_noise"], (4, 4), *sizes)
        h = model.teacher_backbone.feature_map(pixels, training=True)
        h = tf.reshape(h, (BATCH, 16, 8))
        mean = tf.reduce_mean(h, axis=-1, keepdims=True)
        h = (h - mean) / tf.sqrt(tf.reduce_mean((h - mean) ** 2, -1, keepdims=True) + 1e-5)
        with tf.GradientTape() as tape:
            tokens = put_positions(model.backbone, embedded(model.backbone, pixels))
            seen = tf.gather(tokens[:, 2:], places.context, batch_dims=1)
            encoded = tokens_of(model.backbone.network, tf.concat([tokens[:, :2], seen], axis=1))
            errors = [0.0] * BATCH
            for b in range(2):  # one block after the other
                asked, weights = places.targets[:, b], places.weights[:, b]
                inputs = [encoded[:, 2:], places.context, asked, weights]
                predicted = model.predictor(inputs, training=True)
                for i in range(BATCH):
                    for m in np.flatnonzero(weights[i]):
                        e = tf.abs(predicted[i, m] - h[i, int(asked[i, m])])
                        huber = tf.where(e < 1, e**2 / 2, e - 0.5)
                        errors[i] += tf.reduce_mean(huber) / tf.reduce_sum(places.weights[i])
            loss = sum(errors) / BATCH
        descend(model, tape, loss)
        own, teacher = model.backbone.weights, model.teacher_backbone.weights
        follow(teacher, own, 0.8 + 0.2 * step / STEPS)
        return loss

    def make():
        predictor = ijepa_predictor((4, 4), 8, 8, 4, 8, 1, 2)
        return IJEPA(transformer(), predictor, num_targets=2, momentum=0.8)

    agree(make, batches((16,), mask_noise=noises(4 + 2 * 2 + 16)), by_hand)


def test_ibot():
    def by_hand(model, batch, step):
        hidden = blocks.scattered_blocks(batch["mask_noise"], (4, 4), 0.5, 0.1, 0.5).numpy()
        assert 0 < hidden.mean() < 0.5
        both = tf.concat(batch["views"], axis=0)
        mask = np.concatenate([hidden[:, 0], hidden[:, 1]])  # (2 B, 16)
        with tf.GradientTape() as tape:
            grid, wide = embedded(model.backbone, both), mask.reshape(-1, 4, 4, 1)
            grid = grid * (1 - wide) + model.mask_token.value * wide
            tokens = tokens_of(model.backbone.network, put_positions(model.backbone, grid))
            t = put_positions(model.teacher_backbone, embedded(model.teacher_backbone, both))
            t = tokens_of(model.teacher_backbone.network, t)
            pooled = tokens[:, 0], t[:, 0]

            def scores(projector, prototypes, x):
                return unit(projector(x, training=True)) @ tf.transpose(unit(prototypes.value))

            own = model.projector, model.prototypes
            teacher = model.teacher_projector, model.teacher_prototypes
            s, t_images = scores(*own, pooled[0]), scores(*teacher, pooled[1])
            s_patches = tf.stack([scores(*own, x) for x in tf.unstack(tokens[:, 2:], axis=1)], 1)
            t_patches = tf.stack([scores(*teacher, x) for x in tf.unstack(t[:, 2:], axis=1)], 1)
            q = tf.nn.softmax((t_images - model.center.value) / 0.05)
            q = tf.split(tf.stop_gradient(q), 2)
            s = tf.split(s, 2)
            class_loss = (
                tf.reduce_mean(cross_entropy(q[0], s[1], 0.1))
                + tf.reduce_mean(cross_entropy(q[1], s[0], 0.1))
            ) / 2
            q_patches = tf.nn.softmax((t_patches - model.patch_center.value) / 0.05)
            each = cross_entropy(tf.stop_gradient(q_patches), s_patches, 0.1)  # (2 B, 16)
            counts = np.maximum(mask.sum(1), 1)
            loss = class_loss + tf.reduce_mean(tf.reduce_sum(each * mask, axis=1) / counts)
        model.center.assign(0.9 * model.center + 0.1 * tf.reduce_mean(t_images, axis=0))
        mean = tf.reduce_mean(t_patches, axis=(0, 1))
        model.patch_center.assign(0.9 * model.patch_center + 0.1 * mean)
        descend(model, tape, loss)
        decay = cosine(step, 0.8)
        follow(model.teacher_backbone.weights, model.backbone.weights, decay)
        follow(model.teacher_projector.weights, model.projector.weights, decay)
        follow([model.teacher_prototypes], [model.prototypes], decay)
        return loss

    def make():
        # Normalisation by the batch would see the hidden patches alone, which is ours.
        projector = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)], name="projector")
        return IBOT(
            backbones.vit(8, 2, 2, SHAPE, 4, pooling="cls", registers=1),
            projector,
            num_prototypes=6,
            momentum=0.8,
            freeze_epochs=0,
            teacher_temperature=0.05,
            first_teacher_temperature=0.05,
        )

    agree(make, batches((16, 16), mask_noise=noises(2, blocks.SCATTERED_NUMBERS)), by_hand)
