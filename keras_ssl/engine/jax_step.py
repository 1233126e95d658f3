"""The training step on JAX: the same methods, with all state passed in and out."""

import jax
import keras
from keras import ops

from keras_ssl.engine import optimizer as frame


class Step:
    """Mixin of `SSLModel` that takes gradients on JAX.

    Keras hands the step the values of all variables and wants the new ones back. Inside, a
    stateless scope holds the values, so a method reads and assigns variables as it does on
    TensorFlow.
    """

    _scope = None

    def train_step(self, state, batch):
        """One step on the global batch, as Keras' `fit` calls it, with all state in and out."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        groups = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,  # of all players, see `optimizers.Players`
            self.metrics_variables,
        )

        def step():
            losses = self.update(batch)
            frame.count_step(self)
            return losses

        return self._stateless(groups, state, step)

    def test_step(self, state, batch):
        """Losses of the global batch, as Keras' `evaluate` calls it; the optimizer has no part."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        groups = (self.trainable_variables, self.non_trainable_variables, self.metrics_variables)
        return self._stateless(groups, state, lambda: self.compute_losses(batch, training=False))

    def minimize(self, loss_fn, variables, optimizer):
        """Let `optimizer` take one step on `variables` against the gradient of `loss_fn()["loss"]`.

        Args:
            loss_fn: function without arguments that returns a dict of scalars with the key
                `"loss"`.
            variables: list of `keras.Variable` to move; the optimizer must have been built for
                them.
            optimizer: a Keras optimizer.

        Returns:
            What `loss_fn` returned.
        """
        # `jax.grad` wants a pure function of the moved values. So `loss_fn` runs in a scope of its
        # own: `values` are what is differentiated, all other variables enter as constants, and
        # what it assigns (batch statistics, queues) leaves as an auxiliary output.
        outer = self._scope
        moved = {id(variable) for variable in variables}
        others = [
            v
            for v in [*self.variables, *self.metrics_variables, *optimizer.variables]
            if id(v) not in moved and outer.get_current_value(v) is not None
        ]
        constants = [(v, outer.get_current_value(v)) for v in others]

        def objective(values):
            with keras.StatelessScope([*constants, *zip(variables, values)]) as inner:
                losses = loss_fn()
                scaled = optimizer.scale_loss(losses["loss"])
                changed = [inner.get_current_value(v) for v in others]
            return scaled, (losses, changed)

        values = [outer.get_current_value(v) for v in variables]
        gradients, (losses, changed) = jax.grad(objective, has_aux=True)(values)
        for variable, value in zip(others, changed):
            outer.add_update((variable, value))
        # The optimizer reads what the loss has assigned, so its state is taken after that.
        state = [outer.get_current_value(v) for v in optimizer.variables]
        values, state = optimizer.stateless_apply(state, gradients, values)
        for variable, value in zip([*variables, *optimizer.variables], [*values, *state]):
            outer.add_update((variable, value))
        return losses

    def compile_function(self, function):
        """`function` of tensors, which reads this model's variables, a program for each shape."""

        # Variables are arguments: values that a program closes over would stay as they were.
        @jax.jit
        def run(values, *inputs):
            with keras.StatelessScope(list(zip(self.variables, values))):
                return function(*inputs)

        return lambda *inputs: run([v.value for v in self.variables], *inputs)

    def when(self, condition, function):
        """Keep what `function` assigns only if the scalar `condition` holds; it always runs."""
        # `condition` is a traced value that Python cannot branch on, and `lax.cond` would need the
        # function without side effects: it runs, and `where` selects old or new values. Its cost is
        # paid in every step. A variable whose value is the same object was not assigned.
        before = [(v, self._scope.get_current_value(v)) for v in self.variables]
        function()
        for variable, old in before:
            new = self._scope.get_current_value(variable)
            if new is not old:
                self._scope.add_update((variable, ops.where(condition, new, old)))

    def _stateless(self, groups, state, losses):
        """Logs of `losses()` and the new state, run on `state`, the values of `groups`."""
        # The scope is kept on the model only while it is traced: `minimize` and `when` read and
        # write through it, and a value left behind would be a leaked tracer.
        mapping = [pair for group, values in zip(groups, state) for pair in zip(group, values)]
        try:
            with keras.StatelessScope(mapping) as self._scope:
                logs = self.log_losses(losses())
                new = tuple([self._scope.get_current_value(v) for v in group] for group in groups)
        finally:
            self._scope = None
        return logs, new
