"""Label-free figures of a set of embeddings: spread, rank, alignment, uniformity.

Pure functions of arrays, in float64. They measure how embeddings fill their space, and so whether
they have collapsed, not how useful they are for a task.
"""

from typing import Any

import keras
import numpy as np

UNIFORMITY_CHUNK = 1024
ROUNDING = 1e-6  # what float32 leaves of a difference of equal unit embeddings


def feature_std(embeddings: Any) -> float:
    """Spread of the directions of embeddings, 1 when isotropic and 0 at complete collapse.

    With unit rows z_n = z / |z|:  sqrt(D) * mean_d std_n(z_n[:, d]).

    Chen, He 2021, https://arxiv.org/abs/2011.10566 (section 4.1). Departures: multiplied by
    sqrt(D), so that the figure of an isotropic set is 1 whatever D.

    Args:
        embeddings: array (N, D), N >= 2.

    Returns:
        in [0, 1], up to rounding.

    Raises:
        ValueError: `embeddings` is not of shape (N >= 2, D).
    """
    unit = unit_rows(_matrix(embeddings))
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def dead_dimensions(embeddings: Any, threshold: float = 1e-3) -> float:
    """Fraction of dimensions that hardly vary.

    A dimension is dead where sqrt(D) * std_n(z_n[:, d]) < threshold, with unit rows z_n, so the
    answer does not depend on the scale of the features (an absolute threshold calls a healthy
    network with small activations dead).

    Args:
        embeddings: array (N, D), N >= 2.
        threshold: relative to 1, the value in an isotropic set.

    Returns:
        in [0, 1]; 1 at complete collapse.

    Raises:
        ValueError: `embeddings` is not of shape (N >= 2, D).
    """
    unit = unit_rows(_matrix(embeddings))
    return float(np.mean(unit.std(axis=0) * np.sqrt(unit.shape[1]) < threshold))


def rankme(embeddings: Any, epsilon: float = 1e-7) -> float:
    """RankMe: the smooth number of directions that embeddings use.

    With singular values s of the (uncentred) matrix:  p_k = s_k / sum(s) + epsilon,
    RankMe = exp(-sum_k p_k log p_k).

    Garrido et al. 2023, https://arxiv.org/abs/2210.02885 (section 3); effective rank: Roy,
    Vetterli 2007. Departures: singular values come from the Gram matrix in float64. Compare
    only figures of equal N and D; the paper takes N = 25,600.

    Args:
        embeddings: array (N, D), N >= 2.
        epsilon: the paper's 1e-7.

    Returns:
        from 1 (one direction) to min(N, D) (all alike).

    Raises:
        ValueError: `embeddings` is not of shape (N >= 2, D).
    """
    return _entropy_rank(_matrix(embeddings), epsilon)


def effective_rank(embeddings: Any) -> float:
    """RankMe of the centred unit embeddings: the directions in which images differ.

    Pooled ReLU features share a large mean, which dominates RankMe without being a collapse;
    without it the directions in which images differ remain.

    Roy, Vetterli 2007, "The effective rank" (EUSIPCO). Departures: rows are normalised first.

    Args:
        embeddings: array (N, D), N >= 2.

    Returns:
        from 1 to min(N - 1, D); 1 also when all embeddings are equal.

    Raises:
        ValueError: `embeddings` is not of shape (N >= 2, D).
    """
    unit = unit_rows(_matrix(embeddings))
    centred = unit - unit.mean(axis=0)
    if np.abs(centred).max() < ROUNDING:
        return 1.0
    return _entropy_rank(centred, 1e-7)


def alignment(z1: Any, z2: Any) -> float:
    """Mean squared distance of the unit embeddings of two views of the same images.

    align = mean_n |z1_n - z2_n|^2 = 2 - 2 mean cos(z1_n, z2_n).

    Wang, Isola 2020, https://arxiv.org/abs/2005.10242 (section 4.1, alpha = 2).
    Departures: none known.

    Args:
        z1: embeddings of the first views, (N, D).
        z2: embeddings of the second views, (N, D), in the same order.

    Returns:
        in [0, 4]; 0 when the views map to the same points (also at collapse).

    Raises:
        ValueError: the shapes differ.
    """
    first, second = _matrix(z1), _matrix(z2)
    if first.shape != second.shape:
        raise ValueError(
            "`z1` and `z2` must be embeddings of the same images. Received: shapes "
            f"{first.shape} and {second.shape}."
        )
    return float(np.square(unit_rows(first) - unit_rows(second)).sum(axis=1).mean())


def uniformity(z: Any) -> float:
    """How evenly unit embeddings cover the sphere; lower is more even.

    uniform = log mean over pairs i < j of exp(-2 |z_i - z_j|^2).

    Wang, Isola 2020, https://arxiv.org/abs/2005.10242 (section 4.1, t = 2).
    Departures: none known.

    Args:
        z: embeddings (N, D), N >= 2.

    Returns:
        0 when all are equal; about -4 for a uniform set in many dimensions.

    Raises:
        ValueError: `z` is not of shape (N >= 2, D).
    """
    unit = unit_rows(_matrix(z))
    total = 0.0
    for start in range(0, len(unit), UNIFORMITY_CHUNK):
        rows = unit[start : start + UNIFORMITY_CHUNK]
        # -2 |a - b|^2 = 4 a.b - 4 for unit vectors; rounding must not make it positive.
        kernel = np.exp(np.minimum(4.0 * (rows @ unit[start:].T) - 4.0, 0.0))
        total += float(np.triu(kernel, k=1).sum())
    return float(np.log(total / (len(unit) * (len(unit) - 1) / 2)))


def lidar(embeddings: Any, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """LiDAR: effective rank of between-image scatter measured against within-image scatter.

    With n images and q views of each, class means m_i, overall mean m:
        S_b = sum_i (m_i - m)(m_i - m)^T / (n - 1)
        S_w = sum_ij (z_ij - m_i)(z_ij - m_i)^T / (n (q - 1)) + delta I
        p = normalised eigenvalues of S_w^(-1/2) S_b S_w^(-1/2) + epsilon;  exp(entropy(p)).

    Thilak et al. 2023, https://arxiv.org/abs/2312.04000 (section 4). Departures: none known.

    Args:
        embeddings: array (n, q, D): the q >= 2 views of one image lie together.
        delta: added to the within-image scatter; the paper's 1e-4.
        epsilon: added to the normalised eigenvalues; the paper's 1e-8.

    Returns:
        from 1 to min(n - 1, D); the paper takes n = 1,000, q = 50.

    Raises:
        ValueError: `embeddings` is not of shape (n >= 2, q >= 2, D).
    """
    z = to_numpy(embeddings)
    if z.ndim != 3 or z.shape[0] < 2 or z.shape[1] < 2:
        raise ValueError(
            "`embeddings` must have the shape (images >= 2, views >= 2, dimensions). "
            f"Received: shape {z.shape}."
        )
    images, views, dimensions = z.shape
    means = z.mean(axis=1)
    between = means - means.mean(axis=0)
    between = between.T @ between / (images - 1)
    within = (z - means[:, None]).reshape(-1, dimensions)
    within = within.T @ within / (images * (views - 1)) + delta * np.eye(dimensions)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(np.maximum(values, delta)) @ vectors.T
    spectrum = np.maximum(np.linalg.eigvalsh(whiten @ between @ whiten), 0.0)
    return _exp_entropy(spectrum, epsilon)


def _entropy_rank(matrix: np.ndarray, epsilon: float) -> float:
    matrix = matrix / max(float(np.abs(matrix).max()), 1e-300)
    # Eigenvalues of the smaller Gram matrix: the same spectrum as an SVD, much cheaper.
    gram = matrix.T @ matrix if matrix.shape[1] <= matrix.shape[0] else matrix @ matrix.T
    return _exp_entropy(np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0)), epsilon)


def _exp_entropy(spectrum: np.ndarray, epsilon: float) -> float:
    total = spectrum.sum()
    if not total > 0:
        return 1.0
    p = spectrum / total + epsilon
    return float(np.exp(-np.sum(p * np.log(p))))


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows divided by their lengths; rows of zeros stay."""
    # Scaled first: squares of very large or very small entries would leave the range of float64.
    matrix = matrix / max(float(np.abs(matrix).max()), 1e-300)
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def to_numpy(array: Any) -> np.ndarray:
    """A tensor or array of any backend and precision as a float64 array."""
    return np.asarray(keras.ops.convert_to_numpy(array)).astype(np.float64)


def _matrix(embeddings: Any) -> np.ndarray:
    matrix = to_numpy(embeddings)
    if matrix.ndim != 2 or len(matrix) < 2 or matrix.shape[1] < 1:
        raise ValueError(
            "`embeddings` must have the shape (N >= 2, D). "
            f"Received: shape {matrix.shape}. Pool or flatten them first."
        )
    if not np.isfinite(matrix).all():
        raise ValueError(
            "`embeddings` must be finite. Received: NaN or infinity among them. "
            "Look at the loss: training has probably diverged."
        )
    return matrix
