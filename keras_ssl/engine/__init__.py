"""The frame of every method: the model, its step on each backend, and what feeds it."""

from keras_ssl.engine.model import SSLModel

__all__ = ["SSLModel"]
