"""Batch normalisation over the global batch; the only place that makes it.

Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167. With statistics of one replica's share
only, contrastive tasks can be solved by comparing batch statistics (SimCLR, section 2.2), so the
statistics are those of all replicas, always.
"""

import keras
from keras import ops

from keras_ssl import distribute


@keras.saving.register_keras_serializable("keras_ssl")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with statistics of the global batch.

    Same variables, same config, same numbers as the layer it extends; float32 statistics under
    mixed precision. Departures from it: several replicas are always synchronised (Keras: a flag),
    and their variance is merged from centred shares (Keras: mean of squares minus square of mean).
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise `inputs` (channels last) by the batch when `training`, else by the past."""
        if not (training and self.trainable) or mask is not None or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        width = inputs.shape[-1]
        gamma = ops.cast(self.gamma, "float32") if self.scale else ops.ones((width,))
        beta = ops.cast(self.beta, "float32") if self.center else ops.zeros((width,))
        fused = distribute.fused_batch_norm(inputs, gamma, beta, self.epsilon)
        if fused is None:
            x = ops.cast(inputs, "float32")
            mean, variance = distribute.global_moments(x, list(range(len(inputs.shape) - 1)))
            outputs = ops.batch_normalization(x, mean, variance, -1, beta, gamma, self.epsilon)
        else:
            outputs, mean, variance = fused
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(
                moving * self.momentum + ops.cast(value, moving.dtype) * (1 - self.momentum)
            )
        return ops.cast(outputs, self.compute_dtype)


def batch_norm(name: str | None = None, **kwargs) -> BatchNormalization:
    """A batch normalisation with the constants of the field (PyTorch, SimCLR, BYOL).

    Args:
        name: name of the layer.
        **kwargs: as `keras.layers.BatchNormalization`; `momentum` (share of the old moving value
            kept) is 0.9 and `epsilon` 1e-5 by default (Keras: 0.99 and 1e-3). Channels are last.

    Returns:
        A layer.
    """
    return BatchNormalization(name=name, **{"momentum": 0.9, "epsilon": 1e-5, **kwargs})
