"""The base class of every method: all hooks of a method's life, in the order in which they run."""

import inspect
import math

import keras
from keras import ops

from keras_ssl import optimizers
from keras_ssl.engine import optimizer
from keras_ssl.engine.fit import Trainer
from keras_ssl.ops import draws

_CLOCK = ("total_steps", "steps_per_epoch", "batches_seen", "run_seed")
_OPTIONAL = (
    "begin_epoch",
    "embed",
    "assign",
    "reconstruct",
    "mask",
    "sample",
    "log_prob",
    "interpolate",
)


class SSLModel(Trainer, keras.Model):
    """A self-supervised method: networks, state and objective in one `keras.Model`.

    A method must define `compute_losses`, and should define `default_views` and
    `paper_optimizer`; all other hooks are optional. `fit` runs them in this order:

        default_views(image_size), default_optimizer(total_steps, batch_size)
        for every epoch:  begin_epoch(source)
            for every batch:  update(batch)  ->  compute_losses(batch, training=True)
                              after_step()       where the optimizer has moved

    All state of a method is variables, made in the constructor, so that saving, resuming and every
    `tf.distribute` strategy see it. The clock is such a state, too: `step`, `progress`, `epoch`.

    Attributes:
        family: kind of method, such as "contrastive"; for lists.
        loss_names: keys that `compute_losses` returns and `fit` logs; the first is `"loss"`.
        batch_keys: keys of the batch that `compute_losses` reads, as the method's views make them.
        num_images: number of training images, where the method keeps state of each; else None.
        num_classes: number of classes, where the method learns to predict the labels; else None.
        players: trainable variables by player, where several optimizers take turns; empty for one.
        short_run: `optimizers.ShortRun`, the optimizer of runs with few steps; None where that of
            the paper serves them as well.
        teachers: arguments of the constructor that are frozen networks, given as models or by path;
            a run folder keeps a copy of each that the model holds, so that its file is needed once.
        likelihood_kind: what `log_prob` gives, where there is one: "exact", a lower "bound", or an
            "estimate".
        code_unit: what bits are counted for: "dimension", or "pixel" where `log_prob` is that of
            pixels in a palette, which no figure of 8-bit values can be compared with.
        image_side: pixels a side that `pretrain` brings larger images to, unless it is told.
        needs_tokens: whether the backbone must be a vision transformer of `keras_ssl.backbones`.
        half_precision: whether `pretrain(precision="auto")` may take bfloat16 for the method.
        unsupported: checks of the contract suite that the method cannot pass, with the reason.
        batches_seen: variable, batches that the current optimizer has been trained on.
        total_steps: variable, optimizer steps of the whole run; 0 where unknown. Set by `fit`.
        steps_per_epoch: variable, optimizer steps of an epoch; 0 where unknown. Set by `fit`.
        run_seed: variable, the seed of `fit`, which decides draws inside a step (`draw_key`).
    """

    family = "own"
    loss_names = ("loss",)
    batch_keys = ("views",)
    num_images = None
    num_classes = None
    players = {}
    short_run = None
    teachers = ()
    likelihood_kind = None
    code_unit = "dimension"
    image_side = 224
    needs_tokens = False
    half_precision = True
    unsupported = {}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._compiled_hooks = {}
        self._means = [keras.metrics.Mean(name=name) for name in self.loss_names]
        # Counters are variables: they are saved with the weights and read inside the graph.
        self.total_steps = self._counter("total_steps")
        self.steps_per_epoch = self._counter("steps_per_epoch")
        self.batches_seen = self._counter("batches_seen")
        self.run_seed = self._counter("run_seed")
        self.built = True  # sub-networks are made built; Keras must not call the model to find out

    # === Training ===

    def default_views(self, image_size):
        """The paper's view pipeline for images cropped to `image_size` (height, width)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no default views; pass `views` to `fit`."
        )

    def paper_optimizer(self, total_steps, batch_size):
        """The paper's optimizer and schedule for `total_steps` steps of `batch_size` images."""
        raise NotImplementedError(
            f"{type(self).__name__} has no default optimizer; call `compile` first."
        )

    def default_optimizer(self, total_steps, batch_size):
        """What `fit` takes without `compile`: by `short_run` below its limit, else the paper's."""
        if self.short_run is not None and total_steps < self.short_run.below:
            return self.short_run.optimizer(total_steps)
        return self.paper_optimizer(total_steps, batch_size)

    def begin_epoch(self, source):
        """Work on all training images, before the first batch of every epoch, resumed ones too.

        For k-means, vocabularies, data-dependent initialisation. It must write to variables of the
        model and to nothing else. Several processes all call it, with the same images.

        Args:
            source: the `keras_ssl.data.Source` that is trained on; `source.batches(image_size)`
                reads it in the order of the images' index. None where `fit` was given ready
                batches: a method that needs images must then raise a ValueError.
        """

    def compute_losses(self, batch, training):
        """The objective on the global batch.

        Args:
            batch: dict with the `batch_keys`; the share of this replica.
            training: whether the networks run in training mode; if not, no state may change.

        Returns:
            Dict of float32 scalars, equal on all replicas, with the keys `loss_names`; `"loss"` is
            minimised.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `compute_losses`.")

    def update(self, batch):
        """One training step: gradient of `compute_losses`, step of the optimizer.

        Override it only where one loss and one optimizer do not fit: one `self.minimize` a player.
        It must not call `after_step`, the frame does.

        Returns:
            The losses to log, by `loss_names`.
        """
        return self.minimize(
            lambda: self.compute_losses(batch, training=True),
            self.trainable_variables,
            self.optimizer,
        )

    def after_step(self):
        """Update state that follows the weights (teachers, prototypes), after each optimizer step.

        `step` and `progress` count that step already.
        """

    # === Use ===

    def encode(self, images):
        """Frozen features for evaluation: by default the pooled backbone in inference mode.

        Args:
            images: `(batch, height, width, channels)`, uint8 or float in [0, 1].

        Returns:
            float32 tensor `(batch, features)`.
        """
        return ops.cast(self.backbone(images, training=False), "float32")

    def feature_map(self, images):
        """Frozen features of each place, float32 `(batch, h, w, features)`: patch tokens of a ViT.

        Raises:
            ValueError: if the backbone gives vectors and so has no map.
        """
        return ops.cast(self.backbone.feature_map(images, training=False), "float32")

    def embed(self, images):
        """Outputs of the projection head in inference mode, float32 `(batch, width)`."""
        raise self._lacks("embed", "projections")

    def assign(self, images):
        """The cluster or prototype of each image, integers `(batch,)`, in inference mode."""
        raise self._lacks("assign", "clusters")

    def reconstruct(self, images):
        """Reconstructions of images, float32 in [0, 1] of the images' shape."""
        raise self._lacks("reconstruct", "reconstructions")

    def mask(self, images):
        """Images as `reconstruct` sees them, what it does not see in grey; float32 in [0, 1]."""
        raise self._lacks("mask", "masks")

    def sample(self, count, seed=0):
        """`count` images drawn from the model, float32 in [0, 1]; a function of `seed`."""
        raise self._lacks("sample", "samples")

    def log_prob(self, images, seed=0):
        """Log-likelihood (or a lower bound) of 8-bit images, float32 `(batch,)`, in nats."""
        raise self._lacks("log_prob", "likelihoods")

    def interpolate(self, first, second, steps):
        """`steps` images from each of `first` to its partner in `second`, through latent space.

        Returns:
            float32 in [0, 1], `(batch, steps, height, width, channels)`.
        """
        raise self._lacks("interpolate", "interpolations")

    def compiled_hook(self, hook):
        """A hook of this model that takes images, compiled; what `keras_ssl.evaluation` calls.

        The same function at each call, so that an input's shape is traced once in a model's life.
        """
        own = hook.__func__
        if own not in self._compiled_hooks:
            self._compiled_hooks[own] = self.compile_function(hook)
        return self._compiled_hooks[own]

    def can(self, hook):
        """Whether the method defines an optional hook, without calling it.

        Override it where a method has the hook only for some of its arguments.

        Args:
            hook: "begin_epoch", "embed", "assign", "reconstruct", "mask", "sample", "log_prob" or
                "interpolate".

        Raises:
            ValueError: if there is no such hook.
        """
        if hook not in _OPTIONAL:
            raise ValueError(f"`hook` must be one of {_OPTIONAL}. Received: hook={hook!r}.")
        return getattr(type(self), hook) is not getattr(SSLModel, hook)

    def export_encoder(self, path, format=None, layer=None):
        """Write the encoder for use without this library; see `keras_ssl.export.export_encoder`."""
        from keras_ssl.export import export_encoder

        return export_encoder(self, path, format=format, layer=layer)

    def call(self, images, training=False):
        """Features of images, so that `model(images)` and `model.predict(images)` give them."""
        return self.encode(images)

    @property
    def image_shape(self):
        """Height, width and channels of the images the networks take."""
        return self.backbone.image_shape

    # === Clock ===

    @property
    def step(self):
        """Number of optimizer steps taken, an integer tensor; kept in checkpoints."""
        return self.batches_seen // self.batches_a_step()

    def batches_a_step(self):
        """Batches that the optimizer takes for a step; more than 1 where it accumulates."""
        return optimizers.accumulation(self.optimizer if self.compiled else None)

    def forget(self, variables):
        """Let the optimizer forget what it keeps of `variables`, velocities and the like.

        For `begin_epoch`, where it makes a layer anew.
        """
        optimizer.forget(self, variables)

    def share_clock(self, part):
        """Go by the variables of the clock of `part`, a method inside this one, as by its own.

        So `part` counts steps, epochs and progress as this model does, whose optimizer trains it.
        For constructors, once.
        """
        for name in _CLOCK:
            self._untrack_variable(getattr(self, name))
            setattr(self, name, getattr(part, name))
        part.batches_a_step, part.forget = self.batches_a_step, self.forget

    @property
    def draw_key(self):
        """Key of this step's draws (`ops.draws`): negatives, orders of the batch."""
        return draws.draw_key(self.run_seed, self.step)

    @property
    def progress(self):
        """Share of the run that is done, from 0 to 1: the clock of schedules; 0 outside `fit`."""
        return self.share_of_run(self.step)

    @property
    def epoch(self):
        """Epochs done, a float32 tensor such as 1.5; 0 where an epoch's length is unknown."""
        steps = ops.cast(self.steps_per_epoch, "float32")
        return ops.where(steps > 0, ops.cast(self.step, "float32") / ops.maximum(steps, 1.0), 0.0)

    @property
    def run_epochs(self):
        """Epochs of the whole run, a float32 tensor; 0 where unknown."""
        total, steps = (ops.cast(n, "float32") for n in (self.total_steps, self.steps_per_epoch))
        return ops.where(steps > 0, total / ops.maximum(steps, 1.0), 0.0)

    def epochs_of(self, total_steps):
        """Epochs that so many optimizer steps make, a float; infinite where unknown."""
        steps = int(ops.convert_to_numpy(self.steps_per_epoch))  # `fit` has set it, else 0
        return total_steps / steps if steps else math.inf

    def warmup_steps(self, total_steps, epochs=10, most=0.1):
        """Steps of a paper's warm-up of so many `epochs`, but at most this share of the run."""
        known = self.epochs_of(total_steps)
        return round(total_steps * (min(most, epochs / known) if known < math.inf else most))

    def share_of_run(self, step):
        """Share of the run that lies before `step`, from 0 to 1; 0 where its end is not known."""
        total = ops.cast(self.total_steps, "float32")
        share = ops.cast(step, "float32") / ops.maximum(total, 1.0)
        return ops.where(total > 0, ops.clip(share, 0.0, 1.0), 0.0)

    def optimizer_of(self, player):
        """The optimizer of one of the `players`."""
        return optimizers.inner(self.optimizer).players[player]

    # === Configuration ===

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

    def _counter(self, name):
        return self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    def _lacks(self, hook, what):
        return NotImplementedError(
            f"{type(self).__name__} has no {what}: it does not define `{hook}`. "
            f"Check with model.can({hook!r})."
        )
