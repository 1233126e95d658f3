"""Measures of an encoder: what its frozen features can do, and whether they have collapsed.

Everything here sees a model as callables (`model.encode`, and of generative methods `log_prob` and
`reconstruct`) and works on NumPy arrays.
"""

from keras_ssl.evaluation.diagnosis import Verdict, collapse_figures, diagnose
from keras_ssl.evaluation.features import extract, labelled
from keras_ssl.evaluation.information import SharedInformation, shared_information
from keras_ssl.evaluation.knn import knn_accuracy, weighted_knn
from keras_ssl.evaluation.likelihood import bits_per_dim
from keras_ssl.evaluation.linear_probe import LinearProbe, linear_probe
from keras_ssl.evaluation.monitors import (
    alignment,
    dead_dimensions,
    effective_rank,
    feature_std,
    lidar,
    rankme,
    uniformity,
)
from keras_ssl.evaluation.reconstruction import reconstruction_ratio

__all__ = [
    "LinearProbe",
    "SharedInformation",
    "Verdict",
    "collapse_figures",
    "diagnose",
    "linear_probe",
    "alignment",
    "bits_per_dim",
    "dead_dimensions",
    "effective_rank",
    "extract",
    "feature_std",
    "knn_accuracy",
    "labelled",
    "lidar",
    "rankme",
    "reconstruction_ratio",
    "shared_information",
    "uniformity",
    "weighted_knn",
]
