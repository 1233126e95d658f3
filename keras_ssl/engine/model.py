"""The base class of every method: what a method must say, and what it then gets."""

import inspect

import keras
from keras import ops

from keras_ssl.engine import feed
from keras_ssl.ops.images import to_unit_range

if keras.backend.backend() == "jax":
    from keras_ssl.engine.jax_step import Step
else:
    from keras_ssl.engine.tensorflow_step import Step


class SSLModel(Step, keras.Model):
    """A self-supervised method: networks, state and objective in one `keras.Model`.

    A method defines `compute_losses`, and where its paper has them `after_step`, `embed`,
    `default_views`, `default_optimizer`; it overrides `update` only if one loss and one optimizer
    do not fit. All its state is variables, made in the constructor, so that saving, resuming and
    every strategy see them.

    Attributes:
        loss_names: keys that `compute_losses` returns and `fit` logs; the first is `"loss"`.
        batch_keys: keys of the batch that `compute_losses` reads, as the method's views make them.
    """

    loss_names = ("loss",)
    batch_keys = ("views",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._means = [keras.metrics.Mean(name=name) for name in self.loss_names]
        self.built = True  # sub-networks are made built; Keras must not call the model to find out

    def compute_losses(self, batch, training):
        """The objective on the global batch: float32 scalars by name, `"loss"` being minimised."""
        raise NotImplementedError(f"{type(self).__name__} must define `compute_losses`.")

    def after_step(self):
        """Update what follows the weights (teachers, prototypes), after each optimizer step."""

    def encode(self, images):
        """Frozen features for evaluation: the pooled backbone in inference mode.

        Args:
            images: `(batch, height, width, channels)`, uint8 or float in [0, 1].

        Returns:
            float32 tensor `(batch, features)`.
        """
        return ops.cast(self.backbone(to_unit_range(images), training=False), "float32")

    def default_views(self, image_size):
        """The paper's view pipeline for images cropped to `image_size` (height, width)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no default views; pass `views` to `fit`."
        )

    def default_optimizer(self, total_steps, batch_size):
        """The paper's optimizer and schedule for `total_steps` steps of `batch_size` images."""
        raise NotImplementedError(
            f"{type(self).__name__} has no default optimizer; call `compile` first."
        )

    @property
    def step(self):
        """Number of optimizer steps taken, the clock of schedules; kept in checkpoints."""
        return self.optimizer.iterations

    def update(self, batch):
        """One training step: minimise, then let the state follow. Returns the losses to log."""
        losses = self.minimize(
            lambda: self.compute_losses(batch, training=True),
            self.trainable_variables,
            self.optimizer,
        )
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        accumulation = optimizer.gradient_accumulation_steps
        if accumulation and type(self).after_step is not SSLModel.after_step:
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
            y: labels, which are ignored; there so that `fit(images, labels)` works.
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
        feed.check_trainable(self)
        if not self.optimizer.built:
            with feed.model_scope(self):
                self.optimizer.build(self.trainable_variables)
        try:
            return super().fit(
                stream, epochs=epochs, steps_per_epoch=steps, **{"shuffle": False, **kwargs}
            )
        except Exception as error:
            feed.explain(error)
            raise

    def export_encoder(self, path, format="savedmodel"):
        """Write the encoder for use without this library; see `keras_ssl.export.export_encoder`."""
        from keras_ssl.export import export_encoder

        return export_encoder(self, path, format=format)

    def call(self, images, training=False):
        """Features of images, so that `model(images)` and `model.predict(images)` give them."""
        return self.encode(images)

    @property
    def metrics(self):
        """The running means of the losses; Keras' own loss tracker is never updated here."""
        return self._means

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing to build; under a multi-worker strategy Keras' way of finding that out fails."""

    _symbolic_build = _maybe_symbolic_build

    def get_config(self):
        """The constructor's arguments, each an attribute of the same name."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]
        return {"name": self.name, **{name: getattr(self, name) for name in named}}

    @classmethod
    def from_config(cls, config):
        """Make the method from `get_config`'s dict, networks and views included."""
        return cls(
            **{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}
        )
