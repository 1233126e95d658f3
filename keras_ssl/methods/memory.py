"""Loss and checks of the methods with a memory bank (InstDisc, PIRL, CMC)."""

from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank


def discriminate(
    bank: MemoryBank,
    embeddings: Any,
    index: Any,
    temperature: float,
    num_negatives: int,
    key: Any,
    keep: bool,
) -> Any:
    """Loss of telling each embedding's own row of a bank from the others.

    Over all rows the cross-entropy, `losses.memory_cross_entropy`; with K negatives its
    noise-contrastive estimate, `losses.noise_contrastive`, of K rows that the whole batch shares
    and a constant Z that the bank keeps from the first batch on.

    Args:
        bank: read as it is, not updated.
        embeddings: `(N, width)`, of the global batch.
        index: integers `(N,)`, the images of the global batch.
        temperature: > 0.
        num_negatives: K; 0 for all rows.
        key: scalar integer that decides the rows drawn, `SSLModel.draw_key`; banks of one size draw
            the same places for the same key and K.
        keep: whether the bank stores this batch's Z if it has none yet; True in training.

    Returns:
        float32 scalar.
    """
    if not num_negatives:
        return losses.memory_cross_entropy(embeddings, bank.rows, index, temperature)
    negatives = bank.look_up(bank.draw(key, num_negatives))
    scores = losses.memory_scores(embeddings, bank.look_up(index), negatives, temperature)
    partition = bank.fix_partition(losses.partition_estimate(scores, bank.size), keep=keep)
    return losses.noise_contrastive(scores, partition, bank.size)


def check_numbers(num_images: int, dim: int, num_negatives: int, temperature: float) -> None:
    """Raise unless the numbers are in their ranges."""
    for name, value, low in (
        ("num_images", num_images, 2),
        ("dim", dim, 1),
        ("num_negatives", num_negatives, 0),
    ):
        if not value >= low:
            raise ValueError(f"`{name}` must be >= {low}. Received: {name}={value}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")


def check_width(name: str, projector: keras.Model, dim: int) -> None:
    """Raise unless `projector`, the argument `name`, gives `dim` numbers."""
    heads.check_output(name, projector, (dim,), f"Pass its width as `dim`, which is {dim}.")
