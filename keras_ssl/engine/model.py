"""The base class of every method: what a method must say, and what it then gets."""

import inspect

import keras
from keras import ops

from keras_ssl import optimizers
from keras_ssl.engine.training import Training


class SSLModel(Training, keras.Model):
    """A self-supervised method: networks, state and objective in one `keras.Model`.

    A method defines `compute_losses`, and where its paper has them `after_step`, `embed`,
    `default_views`, `default_optimizer`; it overrides `update` only if one loss and one optimizer
    do not fit. All its state is variables, made in the constructor, so that saving, resuming and
    every strategy see them.

    Attributes:
        loss_names: keys that `compute_losses` returns and `fit` logs; the first is `"loss"`.
        batch_keys: keys of the batch that `compute_losses` reads, as the method's views make them.
        num_images: how many images there must be, where state of each is kept; None for any.
        players: variables by player, where several optimizers take turns; empty for one loss.
        unsupported: what of the common contract the method cannot do, and why.
    """

    loss_names = ("loss",)
    batch_keys = ("views",)
    num_images = None
    players = {}
    unsupported = {}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._means = [keras.metrics.Mean(name=name) for name in self.loss_names]
        self.total_steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="total_steps"
        )
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
        return ops.cast(self.backbone(images, training=False), "float32")

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
    def image_shape(self):
        """Height, width and channels of the images the networks take."""
        return self.backbone.image_shape

    @property
    def step(self):
        """Number of optimizer steps taken; kept in checkpoints."""
        return self.optimizer.iterations if self.compiled else 0

    @property
    def progress(self):
        """Share of the run behind us, from 0 to 1: the clock of schedules; 0 outside `fit`."""
        return self.share_of_run(self.step)

    def share_of_run(self, step):
        """Share of the run that lies before `step`, from 0 to 1; 0 where its end is not known."""
        total = ops.cast(self.total_steps, "float32")
        share = ops.cast(step, "float32") / ops.maximum(total, 1.0)
        return ops.where(total > 0, ops.clip(share, 0.0, 1.0), 0.0)

    def optimizer_of(self, player):
        """The optimizer of one of the `players`."""
        return optimizers.inner(self.optimizer).players[player]

    def export_encoder(self, path, format="savedmodel"):
        """Write the encoder for use without this library; see `keras_ssl.export.export_encoder`."""
        from keras_ssl.export import export_encoder

        return export_encoder(self, path, format=format)

    def call(self, images, training=False):
        """Features of images, so that `model(images)` and `model.predict(images)` give them."""
        return self.encode(images)

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
