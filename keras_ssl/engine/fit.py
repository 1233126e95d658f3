"""`fit` and `evaluate`: source -> batches -> optimizer -> clock -> begin_epoch -> Keras."""

import keras

from keras_ssl.callbacks.divergence import DivergenceGuard
from keras_ssl.engine import inputs, optimizer

if keras.backend.backend() == "jax":
    from keras_ssl.engine.jax_step import Step
else:
    from keras_ssl.engine.tensorflow_step import Step


class Trainer(Step):
    """Mixin of `SSLModel` that trains and evaluates it."""

    def compile(self, optimizer="rmsprop", **kwargs):
        """Set the optimizer; `fit` without `compile` takes the method's default one.

        Args:
            optimizer: as `keras.Model.compile`.
            **kwargs: `run_eagerly`, `jit_compile`, `steps_per_execution` and the like.

        Raises:
            ValueError: if a loss or metrics are given: the method has its own.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` cannot be set: a method has its own objective and logs its parts, "
                    f"{type(self).__name__} {list(self.loss_names)}. Received: "
                    f"{name}={kwargs[name]!r}. Leave it out; figures of the features come from "
                    "callbacks, such as keras_ssl.callbacks.KNNMonitor."
                )
        super().compile(optimizer, **kwargs)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        *,
        views=None,
        seed=0,
        validation_data=None,
        validation_freq=1,
        **kwargs,
    ):
        """Train on plain images, or on batches made by the method's views.

        Without `compile`, the method's default optimizer is used, which a line on the screen names:
        the paper's, or in a short run that of `short_run`. Plain images get the method's
        views; the views of an image are a function of (seed, epoch, index), so that training
        continued with `initial_epoch` sees the stream it would have seen.

        Args:
            x: images `(n, height, width, channels)` as an array, a `tf.data.Dataset` of images or
                of (image, label), batched or not, uint8 or float in [0, 1]; the path of a folder
                or `.npz` file, or the name of a data set, as `keras_ssl.data.load` takes them; a
                `keras_ssl.data.Source`; or a dataset of ready batches: dicts with the method's
                `batch_keys`.
            y: labels of an array, integers; ignored by methods that do not read them.
            batch_size: images in the global batch; by default that of a batched dataset, else 256
                (in short runs `short_run.batch_size`) or the number of images.
            epochs: passes over the images.
            views: view pipeline for plain images in the place of `default_views`.
            seed: of order and views.
            validation_data: held-out images in the forms of `x`, or a tuple (x, y); their losses
                are logged as `val_loss`, ... See `evaluate`.
            validation_freq: epochs between two validations, or a list of epochs counted from 1.
            **kwargs: as `keras.Model.fit`: `callbacks`, `initial_epoch`, `steps_per_epoch`,
                `verbose`, ...

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: if the images or batches cannot be used; the message says what to do.
            keras_ssl.callbacks.TrainingDiverged: if the loss or weights become NaN or infinite.
        """
        own = keras.tree.flatten(kwargs.pop("callbacks", None) or [])
        first_epoch = kwargs.get("initial_epoch", 0)
        steps = kwargs.pop("steps_per_epoch", None)
        batches = inputs.prepare(self, x, y, batch_size, views, seed, first_epoch, steps, epochs)
        say = print if kwargs.get("verbose", "auto") else _nothing
        if batches.source is not None:
            inputs.cut_queues(self, batches.source.size, say)
        optimizer.prepare(self, epochs, batches, say)
        _check_callbacks(self, own)
        optimizer.set_clock(self, epochs - first_epoch, batches.steps)
        self.run_seed.assign(seed)
        callbacks = [_BeginEpoch(batches.source)] if self.can("begin_epoch") else []
        if not any(isinstance(callback, DivergenceGuard) for callback in own):
            callbacks.append(DivergenceGuard())
        if validation_data is not None:
            held_out = inputs.held_out(self, validation_data, batches.batch_size, views, seed)
            callbacks.append(_Validation(held_out, validation_freq))
        # The user's callbacks come last, so that their logs hold the validation losses.
        kwargs = {"shuffle": False, **kwargs, "callbacks": callbacks + own}
        with inputs.plain_errors():
            return super().fit(
                batches.dataset, epochs=epochs, steps_per_epoch=batches.steps, **kwargs
            )

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        *,
        views=None,
        seed=0,
        steps=None,
        verbose="auto",
        callbacks=None,
        return_dict=False,
    ):
        """Losses of held-out images under the method's views, in inference mode.

        No state changes: not the weights, statistics, queues, banks or counters. Plain images get
        the views of epoch 0 under `seed`, the same at each call; images that do not fill a batch
        are left out, the same ones each time. Losses that compare images depend on the batch
        size.

        Args:
            x: images or ready batches, as in `fit`.
            y: labels of an array; ignored by methods that do not read them.
            batch_size: images in the global batch; by default that of a batched dataset, else 256
                or the number of images.
            views: view pipeline in the place of `default_views`.
            seed: of order and views.
            steps: batches to evaluate; by default all.
            verbose: as in `keras.Model.evaluate`.
            callbacks: as in `keras.Model.evaluate`.
            return_dict: whether to return a dict by `loss_names`.

        Returns:
            The losses in the order of `loss_names`, a number where there is one alone; or a dict.

        Raises:
            ValueError: if the images or batches cannot be used, or the method keeps state of each
                training image and these are others.
        """
        batches = inputs.prepare(self, x, y, batch_size, views, seed, 0, steps)
        with optimizer.compiled_for_evaluation(self), inputs.plain_errors():
            return super().evaluate(
                batches.dataset,
                steps=batches.steps,
                verbose=verbose,
                callbacks=callbacks,
                return_dict=return_dict,
            )

    def train_on_batch(self, x, **kwargs):
        """One step on a ready batch, a dict with the `batch_keys`; as `keras.Model` otherwise."""
        inputs.check_batch(self, x)
        if self.compiled:
            self.build_optimizer()
        return super().train_on_batch(x, **kwargs)

    def test_on_batch(self, x, **kwargs):
        """Losses of a ready batch, a dict with the `batch_keys`; as `keras.Model` otherwise."""
        inputs.check_batch(self, x)
        return super().test_on_batch(x, **kwargs)

    def build_optimizer(self):
        """Make the optimizer's variables, each player's for the player's own; once is enough."""
        optimizer.build(self)

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says, and make the optimizer's variables."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.build_optimizer()

    @property
    def metrics(self):
        """The running means of the losses; Keras' own loss tracker is never updated here."""
        return self._means

    def log_losses(self, losses):
        """Add the losses of a step to the running means that `fit` shows; returns the means."""
        if set(losses) != set(self.loss_names):
            raise ValueError(
                f"`compute_losses` must return the keys of `loss_names`, {self.loss_names}. "
                f"Received: {tuple(losses)}."
            )
        for mean in self._means:
            mean.update_state(losses[mean.name])
        return {mean.name: mean.result() for mean in self._means}

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing: a method is built already, and Keras' attempt fails with several workers."""

    _symbolic_build = _maybe_symbolic_build


def _check_callbacks(model, callbacks):
    """Raise where a callback would set a learning rate that follows a schedule."""
    setters = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
    names = [type(callback).__name__ for callback in callbacks if isinstance(callback, setters)]
    if names and optimizer.follows_schedule(model):
        raise ValueError(
            "Callbacks that set the learning rate need an optimizer with a plain number for it. "
            f"Received: {', '.join(names)}, and an optimizer that follows a schedule of its own. "
            "Call model.compile(keras.optimizers.Adam(1e-3)) first, or leave the callback out."
        )


def _nothing(text):
    """Takes the place of `print` where `verbose` is 0."""


class _BeginEpoch(keras.callbacks.Callback):
    """Calls the method's `begin_epoch`, before any other callback sees the epoch."""

    def __init__(self, source):
        super().__init__()
        self._source = source

    def on_epoch_begin(self, epoch, logs=None):
        # On JAX the variables hold their values here: Keras takes them out only for the batches.
        with optimizer.scope(self.model):
            self.model.begin_epoch(self._source)


class _Validation(keras.callbacks.Callback):
    """Writes the losses of held-out images to the logs; first, so that others can read them.

    Keras' own validation continues through one endless stream; this restarts it every time, so that
    all validations see the same views.
    """

    def __init__(self, held_out, frequency):
        super().__init__()
        self._held_out, self._frequency = held_out, frequency

    def on_epoch_end(self, epoch, logs=None):
        if self.model._should_eval(epoch, self._frequency):
            losses = keras.Model.evaluate(
                self.model,
                self._held_out.dataset,
                steps=self._held_out.steps,
                verbose=0,
                return_dict=True,
            )
            logs.update({f"val_{name}": value for name, value in losses.items()})
