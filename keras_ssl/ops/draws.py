"""Random draws without state: functions of a key, the same on every backend and replica."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.ops.similarity import l2_normalize

# Shifts and factors of "lowbias32", https://github.com/skeeto/hash-prospector.
_MIX = ((16, 0x7FEB352D), (15, 0x846CA68B))
_GOLDEN = 0x9E3779B9  # 2^32 divided by the golden ratio, odd


def draw_key(seed: Any, step: Any) -> Any:
    """A key for the draws of one step of a run: uint32, `step` itself for seed 0.

    Args:
        seed: scalar integer, a number or a tensor, >= 0.
        step: the same.
    """
    seed, step = (ops.cast(ops.convert_to_tensor(n), "uint32") for n in (seed, step))
    return step + seed * word(_GOLDEN)


def random_words(key: Any, count: int) -> Any:
    """`count` scrambled 32-bit words, uint32 `(count,)`, a function of `key`, a scalar >= 0."""
    # The golden ratio sets key 0 apart from counter 0.
    start = scramble(ops.cast(ops.convert_to_tensor(key), "uint32") + word(_GOLDEN))
    return scramble(scramble(ops.cast(ops.arange(count, dtype="int32"), "uint32")) + start)


def integers(key: Any, count: int, size: int) -> Any:
    """`count` numbers in [0, size), uniform and with replacement, int32 `(count,)`.

    Probabilities are equal up to a share of `size / 2^31`.
    """
    # The top 31 bits stay positive in int32.
    words = ops.right_shift(random_words(key, count), word(1))
    return ops.cast(words, "int32") % size


def uniforms(key: Any, count: int) -> Any:
    """`count` numbers in [0, 1), multiples of 2^-24, float32 `(count,)`."""
    words = ops.right_shift(random_words(key, count), word(8))  # 24 bits, which float32 holds
    return ops.cast(ops.cast(words, "int32"), "float32") * 2.0**-24


def normals(key: Any, shape: Sequence[int]) -> Any:
    """Numbers of the standard normal distribution, float32 of the given shape.

    By the transform of Box and Muller (1958, https://doi.org/10.1214/aoms/1177706645), which needs
    no function but logarithm, root and cosine: backends agree up to rounding. None exceeds 5.8.
    """
    u, v = ops.split(uniforms(key, 2 * math.prod(shape)), 2)
    radius = ops.sqrt(-2.0 * ops.log(1.0 - u))  # 1 - u is in (0, 1]
    return ops.reshape(radius * ops.cos(2.0 * math.pi * v), tuple(shape))


def slices(key: Any, width: int, count: int) -> Any:
    """`count` directions of unit length, evenly spread over the sphere, as columns.

    For statistics of projections onto random lines, such as those of `keras_ssl.losses.sigreg`.

    Args:
        key: decides the draw; `SSLModel.draw_key` gives every step directions of its own, the same
            on all replicas.
        width: D, length of the vectors that are projected.
        count: S.

    Returns:
        float32 `(D, S)`.
    """
    return ops.transpose(l2_normalize(normals(key, (count, width))))


def permutation(key: Any, size: int) -> Any:
    """The numbers from 0 to `size` - 1 in an order drawn by `key`, int32 `(size,)`."""
    words = ops.right_shift(random_words(key, size), word(1))
    return ops.cast(ops.argsort(ops.cast(words, "int32")), "int32")


def categorical(logits: Any, uniform: Any) -> Any:
    """Classes drawn with the probabilities softmax(logits), by inversion of their sums.

    Args:
        logits: `(..., K)`.
        uniform: numbers in [0, 1), `(...)`; the class is a function of them.

    Returns:
        int32 `(...)`, from 0 to K - 1.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    # Without the last sum, which may be rounded to less than 1.
    sums = ops.cumsum(probabilities[..., :-1], axis=-1)
    return ops.sum(ops.cast(sums <= uniform[..., None], "int32"), axis=-1)


def word(number: int) -> Any:
    """A number as uint32."""
    return ops.convert_to_tensor(number, dtype="uint32")


def scramble(x: Any) -> Any:
    """A bijection of 32-bit words in which every bit of the result depends on all bits of `x`."""
    for shift, factor in _MIX:
        x = ops.bitwise_xor(x, ops.right_shift(x, word(shift))) * word(factor)
    return ops.bitwise_xor(x, ops.right_shift(x, word(16)))
