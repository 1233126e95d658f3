"""Measures of an encoder: what its frozen features can do, and whether they have collapsed.

Everything here sees an encoder as a callable (`model.encode`) and works on NumPy features.
"""

from keras_ssl.evaluation.diagnosis import Verdict, collapse_figures, diagnose
from keras_ssl.evaluation.features import extract, labelled
from keras_ssl.evaluation.knn import knn_accuracy, weighted_knn
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

__all__ = [
    "LinearProbe",
    "Verdict",
    "collapse_figures",
    "diagnose",
    "linear_probe",
    "alignment",
    "dead_dimensions",
    "effective_rank",
    "extract",
    "feature_std",
    "knn_accuracy",
    "labelled",
    "lidar",
    "rankme",
    "uniformity",
    "weighted_knn",
]
