"""From what a user hands to `fit` to the batches a method trains on."""

import contextlib
import warnings

import keras

from keras_ssl import data, distribute, optimizers

_DEFAULT_BATCH = 256


def prepare(model, x, labels, batch_size, views, seed, first_epoch, steps_per_epoch):
    """The stream, global batch size and steps an epoch that `fit` uses for `x`; see `SSLModel.fit`.

    Ready batches pass through, with `batch_size` and steps as far as the dataset tells them. Plain
    images get views, and their labels if the method reads them.
    """
    if _is_ready(x):
        return _ready(model, x, steps_per_epoch)
    if isinstance(x, dict) or x is None or isinstance(x, str):
        raise ValueError(_needs(model, f"Received: {type(x).__name__}." + _path_hint(x)))
    reads_labels = "label" in model.batch_keys
    if reads_labels and labels is not None:
        source = data.from_array(x, labels)
    else:
        source = data.load(x, seed=seed)
    batch_size = batch_size or source.batch_size or min(_DEFAULT_BATCH, source.size)
    check_batch_size(batch_size)
    if views is None:
        views = model.default_views(model.image_shape[:2])
    _check_channels(model, source)
    check_number(model, source)
    strategy = getattr(model, "distribute_strategy", None)

    def stream(workers, worker, replicas):
        return data.stream(
            source,
            views,
            batch_size,
            seed,
            first_epoch=first_epoch,
            steps_per_epoch=steps_per_epoch,
            num_workers=workers,
            worker=worker,
            replicas_per_worker=replicas,
            labels=reads_labels,
        )

    with model_scope(model):
        dataset = distribute.feed(stream, batch_size, strategy)
    return dataset, batch_size, steps_per_epoch or source.size // batch_size


def check_batch_size(batch_size):
    """Raise unless a batch of so many images has something to compare."""
    if batch_size < 2:
        raise ValueError(
            "`batch_size` must be at least 2: a batch of one has nothing to be compared with. "
            f"Received: batch_size={batch_size}."
        )


def check_number(model, source):
    """Raise unless a method that keeps state of each image keeps as much as there are images."""
    if model.num_images not in (None, source.size):
        raise ValueError(
            f"{type(model).__name__} keeps a row for each image: `num_images` must be the number "
            f"of images. Received: num_images={model.num_images} and {source.size} images in "
            f"{source.name}. Make the method with num_images={source.size}."
        )


def model_scope(model):
    """The scope of the model's strategy, in which its optimizer must be made too."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


def build_optimizer(model):
    """Make the variables of the model's optimizer, or of its players' optimizers."""
    if model.players and not isinstance(optimizers.inner(model.optimizer), optimizers.Players):
        model.compile(optimizers.Players.like(model.optimizer, model.players))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if model.players:
        optimizer = optimizers.inner(model.optimizer)
        optimizer.build_players(model.players, scaled=optimizer is not model.optimizer)


def lay_out(model, batches):
    """Tell the model's schedules where the run ends: `batches` from here."""
    accumulation = optimizers.inner(model.optimizer).gradient_accumulation_steps or 1
    model.total_steps.assign(int(_number(model.step)) + batches // accumulation)


def check_trainable(model):
    """Raise on what `fit` would silently ignore; warn of steps that would move nothing."""
    if model.losses:
        raise ValueError(
            f"{type(model).__name__} does not add regularizers of layers to its objective, but "
            f"{len(model.losses)} were found. "
            "Remove `kernel_regularizer` and the like and use the optimizer's `weight_decay`."
        )
    optimizer = optimizers.inner(model.optimizer)
    with model_scope(model):
        if optimizer.gradient_accumulation_steps and distribute.num_replicas() > 1:
            raise ValueError(
                "`gradient_accumulation_steps` works on one replica only (a limit of Keras' "
                "optimizers under tf.distribute). "
                f"Received: {optimizer.gradient_accumulation_steps} with "
                f"{distribute.num_replicas()} replicas. Use a larger batch_size."
            )
        for each in map(optimizers.inner, _players(optimizer)):
            clipped = (each.clipnorm, each.clipvalue, each.global_clipnorm)
            if any(clipped) and distribute.num_replicas() > 1:
                raise ValueError(
                    "`clipnorm`, `clipvalue` and `global_clipnorm` work on one replica only: Keras "
                    "clips each replica's share of the gradient before it sums them. Received: "
                    f"{clipped} with {distribute.num_replicas()} replicas. Train without clipping."
                )
    steps, rate = _number(optimizer.iterations) if optimizer.built else 0, optimizer.learning_rate
    if steps and _number(rate) == 0:
        warnings.warn(
            f"The learning rate is 0 at step {int(steps)}: its schedule has ended and training "
            "changes nothing more. Call `compile` with a new optimizer to train on.",
            stacklevel=3,
        )


def _players(optimizer):
    """The optimizers that move variables: the players', or the one itself."""
    return list(getattr(optimizer, "players", {}).values()) or [optimizer]


def _number(scalar):
    """The value of a scalar tensor or variable, mirrored or not."""
    return float(scalar.numpy() if hasattr(scalar, "numpy") else scalar)


def explain(error):
    """Raise the plain message of an error that unusable images caused inside a graph, if any."""
    message = data.unusable_images(error)
    if message:
        raise ValueError(message) from error


def _is_ready(x):
    """Whether `x` yields batches that views already made: dicts without an "image"."""
    spec = getattr(x, "element_spec", None)
    return isinstance(spec, dict) and "image" not in spec


def _ready(model, x, steps_per_epoch):
    missing = [key for key in model.batch_keys if key not in x.element_spec]
    if missing:
        received = ", ".join(repr(key) for key in x.element_spec)
        raise ValueError(
            _needs(model, f"Received batches with the keys {received}; missing: {missing}.")
        )
    shapes = [spec.shape for spec in keras.tree.flatten(x.element_spec) if hasattr(spec, "shape")]
    for shape in shapes:
        if shape.rank is not None and shape.rank > 0 and shape[0] == 1:
            raise ValueError(
                f"A batch of one has nothing to be compared with; {type(model).__name__} needs at "
                "least 2 images a batch. "
                "Received: ready batches of one. Batch the dataset with a larger size."
            )
    batch_size = next((shape[0] for shape in shapes if shape.rank), None) or _DEFAULT_BATCH
    if steps_per_epoch is None and hasattr(x, "cardinality"):
        cardinality = int(x.cardinality())
        steps_per_epoch = cardinality if cardinality > 0 else None
        if cardinality > 0:
            x = x.repeat()
    return x, batch_size, steps_per_epoch


def _needs(model, received):
    return (
        f"{type(model).__name__} trains on images (an array or tf.data.Dataset of images or of "
        "(image, label)) or on ready batches, dicts with "
        f"the keys {list(model.batch_keys)}. {received} To make ready batches yourself: "
        "dataset = keras_ssl.data.stream(keras_ssl.data.load(images), model.default_views((height, "
        "width)), batch_size, seed=0)."
    )


def _path_hint(x):
    return (
        f" For a folder or data set by name, use model.fit(keras_ssl.data.load({x!r}))."
        if isinstance(x, str)
        else ""
    )


def _check_channels(model, source):
    wanted, given = model.image_shape[2], source.image_shape[2]
    if wanted != given:
        raise ValueError(
            f"The backbone takes images with {wanted} channels. Received: images with {given}. "
            f"Make the backbone with input_shape=(height, width, {given}), or convert the images."
        )
