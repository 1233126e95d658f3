"""Batch normalisation over the global batch, or over groups of it.

Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167. With statistics of one replica's share
only, contrastive tasks can be solved by comparing batch statistics (SimCLR, section 2.2), so the
statistics are those of all replicas, and those of groups of images only where a method asks for
them by `grouped`. Either way they do not depend on the number of replicas.
"""

import contextlib
import contextvars

import keras
from keras import ops

from keras_ssl import distribute

# A context variable, not an argument: `grouped` must reach layers deep inside any backbone, whose
# `call` has no place for it. It is read while the graph is traced.
_GROUPS = contextvars.ContextVar("groups", default=1)
_STILL = contextvars.ContextVar("still", default=False)


@contextlib.contextmanager
def grouped(groups: int):
    """Within it, batch normalisation in training takes statistics of each group by itself.

    The global batch is divided, in its order, into `groups` parts of one size, as if each lay on a
    device of its own without synchronisation. Running statistics move towards the mean over groups.

    Args:
        groups: number of groups, which divides the global batch; 1 for ordinary batch
            normalisation. Any number of replicas may share the groups.
    """
    token = _GROUPS.set(groups)
    try:
        yield
    finally:
        _GROUPS.reset(token)


@contextlib.contextmanager
def still():
    """Within it, batch normalisation in training leaves its running statistics as they are.

    For networks that are passed in training mode but are not to move: a discriminator in the turn
    of its opponent.
    """
    token = _STILL.set(True)
    try:
        yield
    finally:
        _STILL.reset(token)


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
        groups, replicas = _GROUPS.get(), distribute.num_replicas()
        if groups == 1:
            outputs, mean, variance = self._normalize(inputs)
        elif groups % replicas:
            outputs, mean, variance = self._normalize_across(inputs, groups)
        else:  # every replica holds whole groups
            parts = ops.split(inputs, groups // replicas)
            outputs, means, variances = zip(*(self._normalize(part, local=True) for part in parts))
            outputs = ops.concatenate(outputs)
            mean, variance = (
                distribute.replica_mean(ops.mean(ops.stack(values), axis=0))
                for values in (means, variances)
            )
        if _STILL.get():
            return ops.cast(outputs, self.compute_dtype)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(
                moving * self.momentum + ops.cast(value, moving.dtype) * (1 - self.momentum)
            )
        return ops.cast(outputs, self.compute_dtype)

    def _normalize_across(self, inputs, groups):
        """Outputs and mean statistics, where groups of the global batch lie on several replicas."""
        gamma, beta = self._gain_and_offset(inputs.shape[-1])
        x, axes = ops.cast(inputs, "float32"), list(range(1, len(inputs.shape) - 1))
        group = distribute.local_groups(x.shape[0], groups)  # (n, groups), one-hot
        images = x.shape[0] * distribute.num_replicas() // groups  # in a group

        def group_means(values):  # (n, ..., C) -> (groups, C), of all replicas
            per_image = ops.mean(values, axis=axes) if axes else values
            return distribute.replica_sum([ops.matmul(ops.transpose(group), per_image)])[0] / images

        def of_image(statistics):  # (groups, C) -> (n, 1, ..., C)
            shape = (-1, *[1] * len(axes), inputs.shape[-1])
            return ops.reshape(ops.matmul(group, statistics), shape)

        means = group_means(x)
        centred = x - of_image(means)
        variances = group_means(ops.square(centred))
        outputs = centred * ops.rsqrt(of_image(variances) + self.epsilon) * gamma + beta
        return outputs, ops.mean(means, axis=0), ops.mean(variances, axis=0)

    def _gain_and_offset(self, width):
        gamma = ops.cast(self.gamma, "float32") if self.scale else ops.ones((width,))
        beta = ops.cast(self.beta, "float32") if self.center else ops.zeros((width,))
        return gamma, beta

    def _normalize(self, inputs, local=False):
        """Outputs, mean and variance, of `inputs` alone if `local`, else of all replicas."""
        gamma, beta = self._gain_and_offset(inputs.shape[-1])
        # One fused kernel where there is one (TensorFlow, one replica), several times as fast.
        fused = distribute.fused_batch_norm(inputs, gamma, beta, self.epsilon, local)
        if fused is not None:
            return fused
        x, axes = ops.cast(inputs, "float32"), list(range(len(inputs.shape) - 1))
        mean, variance = ops.moments(x, axes) if local else distribute.global_moments(x, axes)
        outputs = ops.batch_normalization(x, mean, variance, -1, beta, gamma, self.epsilon)
        return outputs, mean, variance


def is_foreign(layer: keras.Layer) -> bool:
    """Whether `layer` normalises batches but knows nothing of `grouped`."""
    return isinstance(layer, keras.layers.BatchNormalization) and not isinstance(
        layer, BatchNormalization
    )


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
