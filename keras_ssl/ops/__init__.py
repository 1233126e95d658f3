"""Pure functions of tensors in `keras.ops`: no classes, no state."""

from keras_ssl.ops.images import to_unit_range
from keras_ssl.ops.similarity import l2_normalize

__all__ = ["l2_normalize", "to_unit_range"]
