"""Features in the plane, for maps."""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits


def project(features: np.ndarray) -> tuple[np.ndarray, str]:
    """Two coordinates for each row, and the name of the method."""
    features = features.astype(np.float64)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features that do not vary at all
        parts = min(50, *features.shape)
        reduced = np.nan_to_num(PCA(parts, random_state=0).fit_transform(features))
        if len(features) >= 30 and reduced.shape[1] > 1 and reduced.std() > 1e-6:
            # Scaled so that a tight cone of features is spread like any other.
            reduced = reduced / reduced[:, 0].std()
            perplexity = min(30.0, len(features) / 4)
            tsne = TSNE(2, perplexity=perplexity, max_iter=500, init="pca", random_state=0)
            with threadpool_limits(1):  # on shared cores, threads of a small task mostly wait
                return tsne.fit_transform(reduced), "t-SNE"
    if reduced.shape[1] < 2:
        reduced = np.concatenate([reduced, np.zeros((len(reduced), 1))], axis=1)
    return reduced[:, :2], "PCA"
