"""BoWNet: predict, from a crop of other colours, which visual words the whole image is made of.

Gidaris, Bursuc, Komodakis, Perez, Cord 2020, https://arxiv.org/abs/2002.12247 (section 3). There is
no public code of the authors. Departures from the paper: without a given teacher the first part of
the run trains one by rotations (RotNet), of the method's own views, and the student goes on from
its weights (theirs starts anew, as it does here with a given teacher); k-means sees all maps at
once, of large data a part (theirs: in small batches); there is no CutMix; rates fall along half a
cosine (theirs in steps); below 64 px there are fewer words and two crops.
"""

import math
import os

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.encoders import load_encoder, saved_model_of
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.methods import clusters
from keras_ssl.ops import (
    clustering,
    draws,
    is_small,
    l2_normalize,
    mean_entropy,
    to_unit_range,
    usage_entropy,
    words,
)

BAGS = ("counts", "presence")
_POINTS = 2**20  # places that k-means sees, at most, if that is one an image or more


@keras.saving.register_keras_serializable("keras_ssl")
class BoWNet(SSLModel):
    """Predict the bag of words of an image, words being clusters of a frozen teacher's features.

    K-means on the teacher's features at all places of all images gives K words v_k. The bag y of an
    image is the share of its places whose nearest word is k ("counts"), or 1 for the words that are
    there ("presence"), divided by their sum; the teacher sees the whole image. With w_k a weight of
    unit length for each word, a trained scale g, and h = backbone(crop),

        p = softmax_k(g <h, w_k>),
        L = -1/N sum_i sum_k y_ik log p_ik,

    at least the mean entropy of the bags, log K where all p are equal. Unit length keeps words that
    are everywhere from being predicted always.

    Without a `teacher` the first `rotation_share` of the run makes one: crops of the images are
    turned by right angles, each crop of an image by another one, and the loss is that of RotNet,

        L = -1/N sum_i log softmax(rotation_head(h_i))_{angle of i},

    log 4 at first. Then, before the first epoch after it (`begin_epoch`), the backbone is copied as
    the teacher, k-means makes the words, and L is that of bags; the rest of the run is divided into
    `generations`, each with the backbone of the one before as its teacher. `generation` is logged:
    0 for rotations. A run of one epoch has no other. Both kinds of steps are one graph: teacher and
    bags are computed in the first part, too.

    Teacher, words and generation are variables of the model. Crops pass the backbone as one batch.
    The teacher runs in inference mode. Its features at up to a million places, one of each image at
    least, are held for a moment, in a temporary file above 4 GB.

    Beside the loss are logged `word_entropy`, how evenly the bags of a batch use the words, from 0
    to 1; and `bag_entropy`, that of a single bag: where both are equal, all images have the same
    bag.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
            Without a `teacher` it must have a feature map, and square images.
        teacher: a `keras.Model` from images to feature maps, such as the backbone of a trained
            RotNet, or the path of a run folder or a `.keras` file, as `keras_ssl.load_encoder`
            reads them. A model is copied. None: the method makes one.
        num_words: K, >= 2; by default the paper's 8192, and 256 below 64 px.
        bag: "counts" or "presence"; by default the first below 64 px, else the second.
        rotation_share: share of the run without a teacher, in (0, 1).
        generations: of teachers that the method makes, >= 1.
        rounds: of k-means, at most so many, >= 1.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1]: the
            whole image first, then crops of one size.

    Raises:
        ValueError: if an argument is outside its range or belongs to a method without teacher, or
            the teacher cannot be read, copied, or fed with the images, or has no feature map.
    """

    family = "clustering"
    loss_names = ("loss", "generation", "word_entropy", "bag_entropy")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)
    teachers = ("teacher",)

    def __init__(
        self,
        backbone,
        teacher: keras.Layer | str | os.PathLike | None = None,
        num_words: int | None = None,
        bag: str | None = None,
        rotation_share: float = 0.3,
        generations: int = 1,
        rounds: int = 20,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.num_words = (256 if small else 8192) if num_words is None else num_words
        self.bag = bag or ("counts" if small else "presence")
        self.rotation_share, self.generations, self.rounds = rotation_share, generations, rounds
        self._check(teacher)
        if teacher is None:
            self.teacher, self.own_teacher = None, ema.make_teacher(self.backbone)
            self.rotation_head = heads.mlp(
                self.backbone.feature_dim,
                (4,),
                output_norm=None,
                use_bias=True,
                kernel_initializer="glorot_uniform",
                name="rotation_head",
            )
        else:
            self.teacher = _frozen(teacher, self.image_shape[2])
        if self._network.kind == "vector":
            raise ValueError(
                "The teacher of BoWNet must give a feature map. Received: "
                f"'{self._network.name}', which gives vectors. Build the network without its "
                "pooling, or pass another as `teacher`."
            )
        shape = (self.num_words, self._network.feature_dim)
        self.vocabulary = clusters.state_of(self, "vocabulary", shape, "float32", 0.0)
        self.generation = clusters.state_of(self, "generation", (), "int32", 0)
        self.word_weights = self.add_weight(
            shape=(self.num_words, self.backbone.feature_dim),
            initializer=keras.initializers.RandomNormal(),
            name="word_weights",
        )
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def begin_epoch(self, source):
        """Where a generation begins: the backbone becomes the teacher, and k-means makes the words.

        Raises:
            ValueError: if there are no images, or fewer places in them than words.
        """
        if source is None:
            raise ValueError(
                "BoWNet makes its words of all images. Received: ready batches, which `fit` does "
                "not read twice. Pass images to `fit`."
            )
        generation = self._due()
        if generation <= int(ops.convert_to_numpy(self.generation)):
            return
        if self.teacher is None:
            for old, new in zip(self.own_teacher.weights, self.backbone.weights):
                old.assign(ops.convert_to_numpy(new))
        self._make_words(source)
        self.generation.assign(generation)

    def compute_losses(self, batch, training):
        """Cross-entropy of the bags of the global batch, or of rotations before there are words."""
        heads.check_views("BoWNet", batch["views"], "bow_net")
        whole, *crops = batch["views"]
        bags = distribute.all_gather(self._bags(whole))  # (N, K)
        angles = self._angles(crops)
        if self.teacher is None:
            crops = [_turned(crop, angles[:, v]) for v, crop in enumerate(crops)]
        features = heads.chain_views(crops, self.backbone, training=training)
        features = ops.cast(ops.stack(features, axis=1), "float32")  # (batch, crops, width)
        features = ops.reshape(distribute.all_gather(features), (-1, features.shape[-1]))
        scores = self.scale * ops.matmul(features, ops.transpose(l2_normalize(self.word_weights)))
        loss = losses.code_cross_entropy(ops.repeat(bags, len(crops), axis=0), scores, 1.0)
        if self.teacher is None:
            labels = ops.reshape(distribute.all_gather(angles), (-1,))
            logits = ops.cast(self.rotation_head(features, training=training), "float32")
            rotation = losses.labelled_cross_entropy(logits, labels)
            loss = ops.where(self._is_turning, rotation, loss)
        return {
            "loss": loss,
            "generation": ops.cast(self.generation, "float32"),
            "word_entropy": usage_entropy(bags),
            "bag_entropy": mean_entropy(bags) / math.log(self.num_words),
        }

    def default_views(self, image_size):
        """The whole image, and a crop of it with other colours; two crops below 64 px."""
        return views.bow_net(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9, along half a cosine to zero.

        Rate 0.1 for batches of 256, in proportion for others, and L2 1e-4; below 64 px L2 5e-4, as
        https://arxiv.org/abs/2201.03556 trains it on CIFAR-100.
        """
        decay = 5e-4 if is_small(self.image_shape) else 1e-4
        schedule = optimizers.WarmupCosine(0.1 * batch_size / 256, total_steps)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=decay)

    @property
    def _network(self):
        """The teacher, given or made."""
        return self.own_teacher if self.teacher is None else self.teacher

    @property
    def _is_turning(self):
        """Whether the backbone is still to become a teacher, by rotations."""
        return ops.equal(self.generation, 0)

    def _due(self):
        """The generation that belongs to this step; the last where the run's length is unknown."""
        if self.teacher is not None:
            return 1
        step, total = (int(ops.convert_to_numpy(n)) for n in (self.step, self.total_steps))
        first = self.rotation_share
        shares = [first + (1 - first) * g / self.generations for g in range(self.generations)]
        return sum(step >= round(share * total) for share in shares)

    def _make_words(self, source):
        """Centroids of the teacher's features at the places of all images."""
        network, seed = self._network, clusters.seed_of(self)
        places = network.feature_map(ops.zeros((1, *network.image_shape))).shape[1:3]
        places = places[0] * places[1]
        taken = min(places, max(1, _POINTS // source.size))

        def features(images):
            flat = self._features(images)
            if taken < places:  # of each image other ones, as far as a batch is long
                drawn = draws.integers(0, flat.shape[0] * taken, places)
                drawn = ops.reshape(drawn, (flat.shape[0], taken, 1))
                flat = ops.take_along_axis(flat, drawn, axis=1)
            return ops.reshape(flat, (-1, taken * flat.shape[2]))

        features = self.compile_function(features)
        found, _ = clusters.of_all_images(
            features, source, self.image_shape[:2], "features of all images"
        )
        points = found.reshape(-1, network.feature_dim)
        if len(points) < self.num_words:
            raise ValueError(
                "`num_words` must not exceed the number of places in all images. Received: "
                f"num_words={self.num_words} and {len(points)} places. Ask for fewer words."
            )
        labels = clustering.kmeans(points, self.num_words, self.rounds, seed, "k-means")
        self.vocabulary.assign(clustering.means(points, labels, self.num_words))

    def _features(self, images):
        """The teacher's features `(batch, places, width)`, in float32 and without gradient."""
        size, images = self._network.image_shape[:2], to_unit_range(images)
        if tuple(images.shape[1:3]) != size:
            images = ops.image.resize(images, size, interpolation="bilinear", antialias=True)
        x = ops.cast(self._network.feature_map(images, training=False), "float32")
        return ops.stop_gradient(ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])))

    def _bags(self, images):
        """Bags of words of this replica's images."""
        distances = words.squared_distances(self._features(images), self.vocabulary)
        return words.counted_bag(distances, self.bag == "presence")

    def _angles(self, crops):
        """Right angles `(batch, crops)` by which the crops of this replica are turned; else 0."""
        batch = crops[0].shape[0] * distribute.num_replicas()
        first = distribute.local_rows(draws.integers(self.draw_key, batch, 4))
        angles = (first[:, None] + ops.arange(len(crops), dtype="int32")) % 4
        return angles * ops.cast(self._is_turning, "int32")

    def _check(self, teacher):
        for name, low in {"num_words": 2, "generations": 1, "rounds": 1}.items():
            if getattr(self, name) < low:
                value = getattr(self, name)
                raise ValueError(f"`{name}` must be >= {low}. Received: {name}={value}.")
        if self.bag not in BAGS:
            raise ValueError(f"`bag` must be one of {BAGS}. Received: bag={self.bag!r}.")
        if not 0 < self.rotation_share < 1:
            raise ValueError(
                "`rotation_share` must be in (0, 1). Received: "
                f"rotation_share={self.rotation_share}."
            )
        if teacher is not None and self.generations > 1:
            raise ValueError(
                "`generations` belongs to teachers that the method makes. Received: generations="
                f"{self.generations} with a `teacher`. Train again with this run's encoder as the "
                "teacher."
            )
        height, width = self.image_shape[:2]
        if teacher is None and height != width:
            raise ValueError(
                "Without a `teacher` images must be square, to be turned by right angles. "
                f"Received: images of {height} x {width}. Pass a teacher, or a square backbone."
            )


def _frozen(teacher, channels):
    """A copy of the teacher, a model or the path of one, whose variables are not trainable."""
    try:
        network = load_encoder(teacher)
        if saved_model_of(network) is not None:
            raise ValueError("A SavedModel cannot be copied: take the run folder or .keras file.")
        name = network.name
        copy = ema.make_teacher(network, name if name.startswith("teacher_") else f"teacher_{name}")
    except Exception as error:  # whatever a layer's `from_config` may raise
        raise ValueError(
            "`teacher` must be a network from images to feature maps that Keras can copy, or the "
            f"path of one. Received: teacher={teacher!r}. {error}"
        ) from error
    if copy.image_shape[2] != channels:
        raise ValueError(
            f"`teacher` must take images with the student's {channels} channels. Received: a "
            f"teacher for {copy.image_shape[2]} channels."
        )
    return copy


def _turned(images, angles):
    """Each image turned counter-clockwise by its number of right angles, 0 to 3."""
    result = images
    for k in (1, 2, 3):
        own = ops.equal(angles, k)[:, None, None, None]
        result = ops.where(own, ops.rot90(images, k, axes=(1, 2)), result)
    return result
