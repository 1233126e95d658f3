"""FeatureDistillation: a small network learns the features of a frozen one, without labels.

With objective "seed": Fang, Wang, Wang, Zhang, Yang, Liu 2021 (SEED),
https://arxiv.org/abs/2101.04731 (section 3), and the authors' code; "queue": the first term is that
of Koohpayegani, Tejankar, Pirsiavash 2020 (CompRess), https://arxiv.org/abs/2010.14713 (section 3,
one queue of teacher features), the second follows no paper; nor do the regressions "cosine" and
"mse". Departures from SEED's code: a teacher from a file gives the features of its encoder (theirs
those of its projection head); the learning rate is warmed up from 0 (theirs from 0.03); there are
no extra small views. From CompRess: SEED's views and optimizer, temperature 0.07 (theirs 0.04).
"""

import os

import keras
import numpy as np
from keras import ops

from keras_ssl import backbones, distribute, encoders, losses, optimizers, views
from keras_ssl.encoders import load_encoder, saved_model_of
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads, queue
from keras_ssl.ops import is_small, l2_normalize

OBJECTIVES = ("seed", "queue", "cosine", "mse")
_NUMBERS = ("temperature", "teacher_temperature", "queue_size")
_OF = {"seed": _NUMBERS, "queue": ("temperature", "queue_size"), "cosine": (), "mse": ()}


@keras.saving.register_keras_serializable("keras_ssl")
class FeatureDistillation(SSLModel):
    """Learn a frozen teacher's similarities between images, or its features themselves.

    Student and teacher see the same view of an image. With s_i = projector(backbone(view)) of the
    student and t_i the teacher's features, over the N images of the global batch:

        "seed":    with s_i, t_i of unit length and V_i = (t_i, Q_1, ..., Q_K), Q being the t of the
                   latest batches, p_i = softmax(V_i t_i / teacher_temperature) and
                   q_i = softmax(V_i s_i / temperature),
                   L = -1/N sum_i sum_j p_ij log q_ij,   log(K + 1) when all vectors coincide;
        "queue":   with unit vectors, D(a, b) = KL(softmax(a / temperature) || softmax(b /
                   temperature)), and T_i, S_i the teacher's features and the student's projections
                   at each place of image i,
                   L = 1/N sum_i ( D(Q t_i, Q s_i) + mean over places of D(T_i T_i^T, S_i S_i^T) ),
                   the second term where both networks have places (see below);
        "cosine":  L = 1/N sum_i |s_i - t_i|^2 of unit vectors, 2 - 2 cosine, from 0 to 4;
        "mse":     L = mean squared difference of s_i and t_i, in the teacher's unit, squared.

    Places are those of a feature map or of a transformer's patches; where the two networks' grids
    differ, the student's map is resized to the teacher's (bilinear). The t of a batch enter the
    queue after the loss has read it. The teacher runs in inference mode
    and is never trained; views of another size are resized for it (bilinear, antialiased).

    A teacher is saved with the model, so that its file is needed once. With `keep_teacher=False` it
    is named by its path alone: what is saved holds the path and the checksum of its weights, and is
    refused where the weights at that path are others (their layers are not compared). So it always
    is with a SavedModel, which Keras' files cannot hold. On JAX a teacher named by its path becomes
    a constant of the compiled step.

    Args:
        backbone: the student, a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which
            is adopted.
        teacher: a `keras.Model` from images to features, or the path of a run folder, a `.keras`
            file or a SavedModel, as `keras_ssl.load_encoder` reads them. A model is copied.
        objective: "seed", "queue", "cosine" or "mse".
        projector: `keras.Model` from the student's to the teacher's features; by default Dense-ReLU
            of the student's width and Dense ("seed"), or Dense alone, with biases.
        temperature: of the student's similarities ("seed": by default 0.2, as the authors' code),
            or of both networks' ("queue": 0.07), positive.
        teacher_temperature: of the teacher's ("seed"), positive; by default 1e-4 (authors' code),
            which makes the teacher sure of the image itself.
        queue_size: K ("seed", "queue"); by default 65,536 (authors' code), or 8,192 ("queue"), and
            4,096 below 64 px.
        keep_teacher: whether the teacher is saved with the model; by default yes, except for a
            SavedModel.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: for an unknown objective, an argument outside its range or of another objective,
            a teacher that cannot be read, kept, or fed with the student's images, or a projector of
            another width than the teacher's features.
    """

    family = "distillation"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)
    teachers = ("teacher",)

    def __init__(
        self,
        backbone,
        teacher: keras.Layer | str | os.PathLike,
        objective: str = "seed",
        projector: keras.Layer | None = None,
        temperature: float | None = None,
        teacher_temperature: float | None = None,
        queue_size: int | None = None,
        keep_teacher: bool | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if objective not in OBJECTIVES:
            raise ValueError(
                f"`objective` must be one of {OBJECTIVES}. Received: objective={objective!r}."
            )
        self.objective = objective
        self.backbone = backbones.adopt(backbone)
        self._set_teacher(teacher, keep_teacher)
        hidden = (self.backbone.feature_dim,) if objective == "seed" else ()
        width = self._network().feature_dim
        self.projector = projector or heads.plain_mlp(self.backbone.feature_dim, (*hidden, width))
        heads.check_output(
            "projector",
            self.projector,
            (width,),
            "End it with the width of the teacher's features.",
        )
        self._set_numbers(dict(zip(_NUMBERS, (temperature, teacher_temperature, queue_size))))
        if self.queue_size is not None:
            self.queue = queue.Queue(self.queue_size, width, name="queue")

    def compute_losses(self, batch, training):
        """The objective on the global batch; then the teacher's features enter the queue."""
        (images,) = batch["views"]
        if self.objective == "queue":
            return {"loss": self._by_queue(images, training)}
        student = heads.chain(images, self.backbone, self.projector, training=training)
        pair = (ops.cast(x, "float32") for x in (student, self._taught(images)))
        student, teacher = map(distribute.all_gather, pair)  # (global N, width) each
        if self.objective == "cosine":  # |s - t|^2 = 2 - 2 <s, t> for unit vectors
            return {"loss": 2.0 + 2.0 * losses.negative_cosine(student, teacher)}
        if self.objective == "mse":
            return {"loss": losses.feature_mse(student, teacher)}
        loss = losses.similarity_cross_entropy(
            student, teacher, self.queue.keys, self.temperature, self.teacher_temperature
        )
        if training:  # after the loss, where each image stands beside the queue already
            self.queue.enqueue(l2_normalize(teacher))
        return {"loss": loss}

    def _by_queue(self, images, training):
        """Divergence of similarities to the queue, and of those among the places of an image."""
        student, teacher = self._pooled_and_places(images, training)
        student, teacher = ([l2_normalize(x) for x in pair] for pair in (student, teacher))
        logits = (ops.matmul(x[0], ops.transpose(self.queue.keys)) for x in (student, teacher))
        loss = losses.softmax_kl(*logits, self.temperature)  # of this replica's images
        if len(student) > 1:
            grams = (ops.matmul(x[1], ops.swapaxes(x[1], 1, 2)) for x in (student, teacher))
            loss += losses.softmax_kl(*grams, self.temperature)
        if training:
            self.queue.enqueue(distribute.all_gather(teacher[0]))
        return ops.mean(distribute.all_gather(loss))

    def _pooled_and_places(self, images, training):
        """Of student and teacher: `(N, width)` and, where both have places, `(N, T, width)`."""
        network, resized = self._network(), self._resized(images)
        if "vector" in (self.backbone.kind, network.kind):
            student = [heads.chain(images, self.backbone, self.projector, training=training)]
            return student, [self._taught(images)]
        pooled, own = _both(self.backbone, images, training)
        taught, theirs = map(ops.stop_gradient, _both(network, resized, False))
        if own.shape[1:3] != theirs.shape[1:3]:
            own = ops.image.resize(own, theirs.shape[1:3], interpolation="bilinear")
        places = self.projector(ops.reshape(own, (-1, own.shape[-1])), training=training)
        student = [self.projector(pooled, training=training), _as_rows(places, theirs)]
        return student, [taught, _as_rows(theirs, theirs)]

    def embed(self, images):
        """The student's projections in inference mode, of unit length except for "mse"."""
        z = heads.chain(images, self.backbone, self.projector)
        return ops.cast(z, "float32") if self.objective == "mse" else l2_normalize(z)

    def default_views(self, image_size):
        """One view by MoCo v2's transformations, as the authors' code."""
        return views.SingleView(views.moco(image_size).first)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 1e-4, warmed up over 5 epochs, then cosine to zero.

        Learning rate 0.03 * batch / 256; the warm-up is at most a tenth of the run.
        """
        warmup = self.warmup_steps(total_steps, epochs=5)
        schedule = optimizers.WarmupCosine(0.03 * batch_size / 256, total_steps, warmup)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)

    def load_own_variables(self, store):
        """As Keras loads them; refuses those of a run with another teacher than that at the path.

        Raises:
            ValueError: if the teacher's weights are others than those the state was saved with.
        """
        super().load_own_variables(store)
        if self.keep_teacher:
            return
        if (ops.convert_to_numpy(self.teacher_checksum) != checksum(self._network())).any():
            raise ValueError(
                "The weights to load were trained with another `teacher`. Received: "
                f"teacher={self.teacher!r}, whose weights have another checksum. Put that teacher "
                "back in its place."
            )

    def _set_teacher(self, teacher, keep):
        """Reads and freezes the teacher: part of the model, or known to it by path and checksum."""
        try:
            network = load_encoder(teacher)
        except ValueError as error:
            raise ValueError(
                f"`teacher` must be a network from images to features, or the path of one. "
                f"Received: teacher={teacher!r}. {error}"
            ) from error
        wanted, own = network.image_shape[2], self.image_shape[2]
        if wanted != own:
            raise ValueError(
                f"`teacher` must take images with the student's {own} channels. Received: a "
                f"teacher for {wanted} channels."
            )
        by_path = isinstance(teacher, str | os.PathLike)
        self.keep_teacher = _keeps(network, by_path, keep)
        if self.keep_teacher:
            self.teacher = network = _frozen_copy(network)
        else:
            self.teacher = os.fspath(teacher)
            self.teacher_checksum = self.add_weight(
                shape=(8,), dtype="int32", trainable=False, name="teacher_checksum"
            )
            self.teacher_checksum.assign(checksum(network))
        # Keras saves and counts the networks it finds among the attributes; in a function it finds
        # none.
        self._network = lambda: network

    def _taught(self, images):
        """The teacher's features of images of this replica, without gradient."""
        return ops.stop_gradient(self._network()(self._resized(images), training=False))

    def _resized(self, images):
        size = self._network().image_shape[:2]
        if tuple(images.shape[1:3]) == size:
            return images
        return ops.image.resize(images, size, interpolation="bilinear", antialias=True)

    def _set_numbers(self, given):
        """Temperatures and size of the queue, which belong to some objectives alone."""
        temperature, size = {"queue": (0.07, 8192)}.get(self.objective, (0.2, 65_536))
        size = 4096 if is_small(self.image_shape) else size
        default = dict(zip(_NUMBERS, (temperature, 1e-4, size)))
        for name, value in given.items():
            if name in _OF[self.objective]:
                value = default[name] if value is None else value
            elif value is not None:
                belongs = " or ".join(repr(o) for o in OBJECTIVES if name in _OF[o])
                raise ValueError(
                    f"`{name}` belongs to objective={belongs}. Received: {name}={value} with "
                    f"objective={self.objective!r}. Leave it out."
                )
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {name}={value}.")
            setattr(self, name, value)


def _both(backbone, images, training):
    """Pooled features and feature map of images."""
    places = backbone.feature_map(images, training=training)
    if backbone.pooling == "cls":  # a transformer, without statistics that a second pass would move
        return backbone(images, training=training), places
    return ops.mean(places, axis=(1, 2)), places


def _as_rows(x, like):
    """`(N, T, width)` with the T places of the map `like`."""
    return ops.reshape(x, (-1, like.shape[1] * like.shape[2], x.shape[-1]))


def checksum(network):
    """SHA-256 of the weights of `network`, as eight whole numbers; their order does not count."""
    return np.frombuffer(encoders.checksum(network), "int32")


def _keeps(network, by_path, keep):
    """Whether the teacher is saved with the model, of what was asked for."""
    saved_model = saved_model_of(network) is not None
    if saved_model and keep:
        raise ValueError(
            "`keep_teacher` must be False or None for a SavedModel, which Keras' files cannot "
            "hold. Received: keep_teacher=True. Leave it out, or take the run folder or a .keras "
            "file."
        )
    if not by_path and (saved_model or keep is False):
        raise ValueError(
            "A `teacher` that is not saved with the model must be given by its path. Received: the "
            f"model '{network.name}', keep_teacher={keep}. Pass the path of its file."
        )
    return not saved_model if keep is None else keep


def _frozen_copy(network):
    """A copy whose variables are not trainable; the caller's model stays as it is."""
    name = network.name
    try:
        return ema.make_teacher(network, name if name.startswith("teacher_") else f"teacher_{name}")
    except Exception as error:  # whatever a layer's `from_config` may raise
        raise ValueError(
            f"`teacher` must be a network that Keras can copy and save. Received: '{name}', whose "
            f"copy fails: {error} Register the classes of your own with "
            "keras.saving.register_keras_serializable, and write a layer in the place of Lambda."
        ) from error
