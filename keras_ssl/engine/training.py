"""How a method is trained: one step, and `fit` around it."""

import keras
from keras import ops

from keras_ssl import optimizers
from keras_ssl.engine import feed

if keras.backend.backend() == "jax":
    from keras_ssl.engine.jax_step import Step
else:
    from keras_ssl.engine.tensorflow_step import Step


class Training(Step):
    """Mixin of `SSLModel` that trains it; what a method says of itself is in `SSLModel`."""

    def update(self, batch):
        """One training step: minimise, then let the state follow. Returns the losses to log."""
        losses = self.minimize(
            lambda: self.compute_losses(batch, training=True),
            self.trainable_variables,
            self.optimizer,
        )
        optimizer = optimizers.inner(self.optimizer)
        accumulation = optimizer.gradient_accumulation_steps
        if accumulation:
            self.when(ops.equal(optimizer._iterations % accumulation, 0), self.after_step)
        else:
            self.after_step()
        return losses

    def report(self, losses):
        """Add the losses of a step to the running means that `fit` shows."""
        if set(losses) != set(self.loss_names):
            raise ValueError(
                f"`compute_losses` must return the keys of `loss_names`, {self.loss_names}. "
                f"Received: {tuple(losses)}."
            )
        for mean in self._means:
            mean.update_state(losses[mean.name])
        return {mean.name: mean.result() for mean in self._means}

    def build_optimizer(self):
        """Make the optimizer's variables, each player's for the player's own; once is enough."""
        with feed.model_scope(self):
            feed.build_optimizer(self)

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says, and make the optimizer's variables."""
        super().compile_from_config(config)
        self.build_optimizer()

    def fit(self, x=None, y=None, batch_size=None, epochs=1, *, views=None, seed=0, **kwargs):
        """Train on plain images, or on batches made by the method's views.

        Without `compile`, the paper's optimizer and schedule are used. Plain images get the
        method's views; the views of an image are a function of (seed, epoch, index), so that
        training continued with `initial_epoch` sees the stream it would have seen.

        Args:
            x: images `(n, height, width, channels)` as an array, a `tf.data.Dataset` of images or
                of (image, label), batched or not, uint8 or float in [0, 1]; a
                `keras_ssl.data.Source`; or a dataset of ready batches: dicts with the method's
                `batch_keys`.
            y: labels of an array, whole numbers; ignored by methods that do not read them.
            batch_size: images in the global batch; by default that of a batched dataset, else 256
                or the number of images.
            epochs: passes over the images.
            views: view pipeline for plain images in the place of `default_views`.
            seed: of order and views.
            **kwargs: as `keras.Model.fit`: `callbacks`, `initial_epoch`, `steps_per_epoch`,
                `verbose`, ...

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: if the images or batches cannot be used; the message says what to do.
        """
        stream, batch_size, steps = feed.prepare(
            self,
            x,
            y,
            batch_size,
            views,
            seed,
            kwargs.get("initial_epoch", 0),
            kwargs.pop("steps_per_epoch", None),
        )
        if not self.compiled:
            if steps is None:
                raise ValueError(
                    "`steps_per_epoch` is needed to lay out the schedule: the dataset does not "
                    "tell its length."
                )
            with feed.model_scope(self):
                self.compile(self.default_optimizer(epochs * steps, batch_size))
        self.build_optimizer()
        feed.check_trainable(self)
        if steps is not None:
            feed.lay_out(self, (epochs - kwargs.get("initial_epoch", 0)) * steps)
        try:
            return super().fit(
                stream, epochs=epochs, steps_per_epoch=steps, **{"shuffle": False, **kwargs}
            )
        except Exception as error:
            feed.explain(error)
            raise

    @property
    def metrics(self):
        """The running means of the losses; Keras' own loss tracker is never updated here."""
        return self._means

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing to build; under a multi-worker strategy Keras' way of finding that out fails."""

    _symbolic_build = _maybe_symbolic_build
