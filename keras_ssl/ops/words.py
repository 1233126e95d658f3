"""Bags of visual words: which words of a vocabulary the places of an image stand for."""

from typing import Any

from keras import ops


def squared_distances(features: Any, words: Any) -> Any:
    """Squared distance of every place of every image to every word, in float32.

    It takes `4 * N * T * K` bytes.

    Args:
        features: `(N, T, C)`, vectors of the T places of N images, any floating dtype.
        words: `(K, C)`.

    Returns:
        float32 `(N, T, K)`, >= 0.

    Raises:
        ValueError: if the shapes are others.
    """
    shapes = tuple(features.shape), tuple(words.shape)
    if len(shapes[0]) != 3 or len(shapes[1]) != 2 or shapes[0][-1] != shapes[1][-1]:
        raise ValueError(
            "`features` must have shape (N, T, C) and `words` (K, C). Received: "
            f"features.shape={shapes[0]}, words.shape={shapes[1]}. Flatten the places of a map."
        )
    # Half precision has too few bits for a difference of large squares.
    x, w = (ops.cast(each, "float32") for each in (features, words))
    products = ops.matmul(x, ops.transpose(w))
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True) + ops.sum(ops.square(w), axis=-1)
    return ops.maximum(squares - 2.0 * products, 0.0)


def counted_bag(distances: Any, presence: bool = False) -> Any:
    """The words that are nearest to the places of an image: their shares of the places.

        y_k = number of places whose nearest word is k, or with `presence` 1 if there is one;
        y / |y|_1.

    Gidaris et al. 2020 (BoWNet), https://arxiv.org/abs/2002.12247, section 3.2.

    Args:
        distances: `(N, T, K)`, as `squared_distances` gives them.
        presence: whether it counts only that a word is there.

    Returns:
        float32 `(N, K)`, rows that sum to 1, whatever the order of the places.
    """
    codes = ops.one_hot(ops.argmin(distances, axis=-1), distances.shape[-1], dtype="float32")
    return _shares(ops.max(codes, axis=1) if presence else ops.sum(codes, axis=1))


def soft_bag(distances: Any, sharpness: Any) -> Any:
    """How surely each word is in an image: the surest place of each, in shares.

        y_k = max_t softmax_k(-sharpness d_t),    y / |y|_1.

    Gidaris et al. 2021 (OBoW), https://arxiv.org/abs/2012.11552, section 3.2.

    Args:
        distances: d, `(N, T, K)`, as `squared_distances` gives them.
        sharpness: >= 0, a number or a scalar tensor; the larger, the more the nearest word counts.

    Returns:
        float32 `(N, K)`, rows that sum to 1, whatever the order of the places.
    """
    return _shares(ops.max(ops.softmax(-sharpness * distances, axis=-1), axis=1))


def _shares(bag):
    return bag / ops.sum(bag, axis=-1, keepdims=True)
