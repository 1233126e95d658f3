"""Losses: pure functions of the global batch that return a scalar, computed in float32."""

from keras_ssl.losses.contrastive import info_nce, nt_xent

__all__ = ["info_nce", "nt_xent"]
