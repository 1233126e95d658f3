"""Layers with weights that methods are composed of."""

from keras_ssl.layers.norm import BatchNormalization, batch_norm

__all__ = ["BatchNormalization", "batch_norm"]
