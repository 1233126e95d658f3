"""Classification of images of which some have no label."""

from typing import Any

from keras import ops


def labelled_cross_entropy(logits: Any, labels: Any, weights: Any = None) -> Any:
    """Mean cross-entropy of those images that have a label.

    With A the images whose label is not negative, and weights w, 1 by default,

        L = -1/|A| sum_{i in A} w_i log softmax(logits_i)_{labels_i},

    and 0 where A is empty. Images without a label have no gradient.
    Departures from a paper: it follows none.

    Args:
        logits: `(N, classes)`, any floating dtype.
        labels: whole numbers `(N,)` below `classes`; -1 where there is none.
        weights: `(N,)`, of the images; None for 1.

    Returns:
        float32 scalar; log(classes) where all logits are equal and weights 1.

    Raises:
        ValueError: if there is not one row of logits for each label.
    """
    shapes = tuple(logits.shape), tuple(labels.shape)
    if len(shapes[0]) != 2 or shapes[1] != shapes[0][:1]:
        raise ValueError(
            "`logits` must have shape (N, classes) and `labels` (N,). Received: "
            f"logits.shape={shapes[0]}, labels.shape={shapes[1]}."
        )
    known = ops.greater_equal(labels, 0)
    targets = ops.cast(ops.where(known, labels, ops.zeros_like(labels)), "int32")
    entropies = ops.sparse_categorical_crossentropy(
        targets, ops.cast(logits, "float32"), from_logits=True
    )
    if weights is not None:
        entropies = entropies * ops.cast(weights, "float32")
    number = ops.sum(ops.cast(known, "float32"))
    return ops.sum(ops.where(known, entropies, 0.0)) / ops.maximum(number, 1.0)
