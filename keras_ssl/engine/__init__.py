"""The life cycle of a method, told once.

`model.py` declares every hook; `fit.py` goes from a source of images to Keras' `fit`, with
`inputs.py` (batches) and `optimizer.py` (optimizer and clock); `tensorflow_step.py` and
`jax_step.py` take the gradients.
"""

from keras_ssl.engine.model import SSLModel

__all__ = ["SSLModel"]
