"""Pure functions of tensors in `keras.ops`: no classes, no state."""

from keras_ssl.ops import draws
from keras_ssl.ops.entropy import mean_entropy, usage_entropy
from keras_ssl.ops.images import dequantized, grey_values, is_small, quantized, to_unit_range
from keras_ssl.ops.interpolation import decode_lines
from keras_ssl.ops.similarity import l2_normalize
from keras_ssl.ops.sinkhorn import sinkhorn
from keras_ssl.ops.whitening import whiten

__all__ = [
    "decode_lines",
    "dequantized",
    "draws",
    "grey_values",
    "is_small",
    "l2_normalize",
    "mean_entropy",
    "quantized",
    "sinkhorn",
    "to_unit_range",
    "usage_entropy",
    "whiten",
]
