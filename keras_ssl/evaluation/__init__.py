"""Measures of an encoder: what its frozen features can do, and whether they have collapsed.

Everything here sees a model as callables (`model.encode`, and of generative methods `log_prob` and
`reconstruct`) and works on NumPy arrays.
"""

from keras_ssl.evaluation.baselines import compressed, independent_pixels, independent_values
from keras_ssl.evaluation.diagnosis import Verdict, collapse_figures, diagnose
from keras_ssl.evaluation.features import extract, labelled, labelled_features
from keras_ssl.evaluation.fine_tuning import FineTuned, fine_tune, fresh
from keras_ssl.evaluation.information import SharedInformation, shared_information
from keras_ssl.evaluation.knn import knn_accuracy, weighted_knn
from keras_ssl.evaluation.layer_probe import layer_probe
from keras_ssl.evaluation.likelihood import bits_per_dim, code_lengths, mean_and_error
from keras_ssl.evaluation.linear_probe import LinearProbe, linear_probe
from keras_ssl.evaluation.low_shot import LowShot, draw_labels, low_shot
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
    "FineTuned",
    "LinearProbe",
    "LowShot",
    "SharedInformation",
    "Verdict",
    "alignment",
    "bits_per_dim",
    "code_lengths",
    "compressed",
    "collapse_figures",
    "dead_dimensions",
    "diagnose",
    "draw_labels",
    "effective_rank",
    "extract",
    "feature_std",
    "fine_tune",
    "fresh",
    "independent_pixels",
    "independent_values",
    "knn_accuracy",
    "labelled",
    "labelled_features",
    "layer_probe",
    "lidar",
    "linear_probe",
    "low_shot",
    "mean_and_error",
    "rankme",
    "reconstruction_ratio",
    "shared_information",
    "uniformity",
    "weighted_knn",
]
