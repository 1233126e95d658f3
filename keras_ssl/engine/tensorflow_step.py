"""The training step on TensorFlow: one gradient tape, under any `tf.distribute` strategy."""

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.engine import optimizer as frame


class Step:
    """Mixin of `SSLModel` that takes gradients on TensorFlow."""

    def train_step(self, batch):
        """One step on the share of this replica, as Keras' `fit` calls it."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        losses = self.update(batch)
        frame.count_step(self)
        return _for_keras(self.log_losses(losses))

    def test_step(self, batch):
        """Losses of the share of this replica, as Keras' `evaluate` calls it."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        return _for_keras(self.log_losses(self.compute_losses(batch, training=False)))

    def minimize(self, loss_fn, variables, optimizer):
        """Let `optimizer` take one step on `variables` against the gradient of `loss_fn()["loss"]`.

        The optimizer sums gradients over replicas, so the loss, which is that of the global batch
        on every replica, is divided by their number here. Clipping acts on the sum.

        Args:
            loss_fn: function without arguments that returns a dict of scalars with the key
                `"loss"`.
            variables: list of `keras.Variable` to move; the optimizer must have been built for
                them.
            optimizer: a Keras optimizer.

        Returns:
            What `loss_fn` returned.
        """
        replicas = distribute.num_replicas()
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            losses = loss_fn()
            scaled = optimizer.scale_loss(losses["loss"] / replicas)
        gradients = tape.gradient(scaled, values)
        if replicas > 1 and frame.clips(optimizer):
            gradients = frame.clip(gradients, optimizer)
        elif replicas > 1 and isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            # Keras looks for overflow before it sums over replicas; all replicas must agree.
            gradients = [g if g is None else distribute.replica_mean(g) for g in gradients]
        optimizer.apply(gradients, variables)
        return losses

    def compile_function(self, function):
        """`function` of tensors, which reads this model's variables, as a graph for each shape."""
        return tf.function(function)

    def when(self, condition, function):
        """Run `function`, which assigns to variables, if the scalar tensor `condition` holds."""

        def run():
            function()
            return tf.constant(0)  # both branches of a cond must return something

        tf.cond(condition, run, lambda: tf.constant(0))


def _for_keras(logs):
    """Logs as Keras expects them: with several processes it averages over their first axis."""
    if distribute.in_multi_worker():
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
    return logs
