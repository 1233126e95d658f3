"""OBoW: predict the visual words of the whole image from parts, with words that are renewed.

Gidaris, Bursuc, Puy, Komodakis, Cord, Perez 2021, https://arxiv.org/abs/2012.11552 (section 3).
Departures from the authors' code: the teacher moves after each step in the place of before the
next one's targets, which differs only in its last value; vocabularies start as random unit vectors
(theirs: normal numbers, negative ones set to 0), and batches need not divide their size; maps of
fewer than five places a side keep their border, and those of fewer than three are averaged over as
many; below 64 px settings are those of the authors' ResNet-18, with fewer words.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones import last_maps
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.layers.queue import Queue
from keras_ssl.ops import draws, is_small, l2_normalize, mean_entropy, usage_entropy, words

_KEPT = 0.99  # of the mean distance, by each step
_FIRST_DISTANCE = 0.5


@keras.saving.register_keras_serializable("keras_ssl")
class OBoW(SSLModel):
    """Predict the bag of words that a teacher finds in the image from crops of it.

    A vocabulary of K words v_k for each of the last levels of the backbone holds local features of
    the latest images. With f_t the teacher's features at the places t of the whole image, d_tk =
    |f_t - v_k|^2, and m the mean of min_k d_tk over places, images and the latest steps, the bag is

        y_k = max_t softmax_k(-(sharpness / m) d_tk),    y <- y / |y|_1,

    and with h = backbone(crop) and g a network that makes weights of words,

        p = softmax_k(scale <h, g(v_k)>),    g of unit length,
        L = sum over sizes of crops, mean over levels, crops of that size and images of KL(y || p).

    A word is told by what it is and not by its place: g sees v_k of unit length, and normalises
    over the words. The teacher t is the moving average of the backbone s, with

        t <- a t + (1 - a) s,    a = 1 - (1 - momentum) (1 + cos(pi progress)) / 2,

    after each step; it normalises by its own batch and has no gradient. Bags and predictions use
    the words of the step before; then one random place of each image, averaged with its eight
    neighbours, takes the place of the oldest words. The outermost places of maps, which see the
    zeros around the image, are left out. Crops of one size pass the backbone as one batch.

    Distances and codes of all places take `8 * batch * places * K` bytes a level (1.2 GB each for
    256 images of 224 px, conv4 of a ResNet and 8192 words), shared by the devices.

    Beside the loss are logged, as means over the levels, `word_entropy`, how evenly the bags of a
    batch use the words, from 0 to 1; and `bag_entropy`, that of a single bag: where both are equal,
    all images have the same bag, a collapse.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must have feature maps, and take all sizes that the views have.
        num_words: K of each level, >= 2; by default 8192, and 1024 below 64 px. `fit` cuts it to
            the number of images.
        levels: how many of the backbone's last stages have a vocabulary, >= 1 (2: conv4 and conv5
            of a ResNet). More than 1 need a functional network; by default 2, and 1 for a network
            that is not, or that gives tokens.
        sharpness: of the codes, > 0; by default 15, and 10 below 64 px.
        scale: of the predictions, > 0; by default 8, and 5 below 64 px.
        momentum: a at the start, in [0, 1].
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1]: the
            whole image first, then crops.

    Raises:
        ValueError: if a number is outside its range, the backbone has no maps of so many levels, or
            there is no crop.
    """

    family = "clustering"
    loss_names = ("loss", "word_entropy", "bag_entropy")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        num_words: int | None = None,
        levels: int | None = None,
        sharpness: float | None = None,
        scale: float | None = None,
        momentum: float = 0.99,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.num_words = (1024 if small else 8192) if num_words is None else num_words
        self.sharpness = (10.0 if small else 15.0) if sharpness is None else sharpness
        self.scale = (5.0 if small else 8.0) if scale is None else scale
        self.momentum = momentum
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self._maps, widths = _maps_of(self.teacher_backbone, levels)
        self.levels = len(widths)
        self._check()
        dim = self.backbone.feature_dim
        self.vocabularies = [
            Queue(self.num_words, width, name=f"words{level}") for level, width in enumerate(widths)
        ]
        self.generators = [
            heads.mlp(
                width,
                (2 * dim, dim),
                output_norm=None,
                use_bias=True,
                kernel_initializer=heads.pytorch_uniform(),
                name=f"generator{level}",
            )
            for level, width in enumerate(widths)
        ]
        self.mean_distances = [
            self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(_FIRST_DISTANCE),
                trainable=False,
                name=f"mean_distance{level}",
            )
            for level in range(self.levels)
        ]

    def compute_losses(self, batch, training):
        """Divergence of predictions from bags of the global batch; then words are renewed."""
        heads.check_views("OBoW", batch["views"], "obow")
        whole, *crops = batch["views"]
        places = self._places(whole, training)
        bags = [
            distribute.all_gather(self._bag(level, x, training)) for level, x in enumerate(places)
        ]
        weights = [
            l2_normalize(generator(l2_normalize(ops.stop_gradient(queue.keys)), training=training))
            for generator, queue in zip(self.generators, self.vocabularies)
        ]
        features = heads.chain_views(crops, self.backbone, training=training)
        features = [distribute.all_gather(ops.cast(h, "float32")) for h in features]
        sizes = [tuple(crop.shape[1:3]) for crop in crops]
        loss = 0.0
        for h, size in zip(features, sizes):
            for bag, own in zip(bags, weights):
                scores = self.scale * ops.matmul(h, ops.transpose(own))
                share = sizes.count(size) * self.levels
                loss += losses.code_divergence(bag, scores) / share
        if training:  # last: bags and weights are those of the same words
            for level, x in enumerate(places):
                self.vocabularies[level].enqueue(distribute.all_gather(self._new_words(level, x)))
        return {
            "loss": loss,
            "word_entropy": sum(map(usage_entropy, bags)) / self.levels,
            "bag_entropy": mean_entropy(ops.stack(bags)) / math.log(self.num_words),
        }

    def after_step(self):
        """The teacher follows the backbone, ever more slowly."""
        decay = optimizers.cosine_momentum(self.progress, 1, self.momentum)
        ema.update(self.teacher_backbone, self.backbone, decay)

    def default_views(self, image_size):
        """The whole image, two crops and five patches; two crops alone below 64 px."""
        return views.obow(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 1e-4, cosine to a thousandth of the rate.

        0.03 for batches of 256, here in proportion for others, warmed up over 10 epochs (a tenth of
        the run at most).
        """
        peak = 0.03 * batch_size / 256
        schedule = optimizers.WarmupCosine(
            peak, total_steps, self.warmup_steps(total_steps), floor=peak / 1000
        )
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)

    @property
    def queue_size(self):
        """Words of each vocabulary, which `fit` cuts to the number of images."""
        return self.num_words

    @queue_size.setter
    def queue_size(self, size):
        self.num_words = size

    def _places(self, images, training):
        """Maps `(batch, h, w, C)` of each level by the teacher, in float32, without border."""
        maps = [ops.cast(x, "float32") for x in self._maps(images, training)]
        return [ops.stop_gradient(_without_border(x)) for x in maps]

    def _bag(self, level, places, training):
        """Bags of this replica's images; the mean distance moves before it is used."""
        flat = ops.reshape(places, (-1, places.shape[1] * places.shape[2], places.shape[3]))
        distances = words.squared_distances(flat, self.vocabularies[level].keys)
        mean = ops.convert_to_tensor(self.mean_distances[level])
        if training:
            nearest = distribute.replica_mean(ops.mean(ops.min(distances, axis=-1)))
            mean = _KEPT * mean + (1.0 - _KEPT) * nearest
            self.mean_distances[level].assign(mean)
        return words.soft_bag(distances, self.sharpness / ops.maximum(mean, 1e-6))

    def _new_words(self, level, places):
        """One place of each image of this replica, averaged with its neighbours."""
        side = min(3, *places.shape[1:3])
        x = ops.average_pool(places, side, strides=1, padding="valid")
        flat = ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        batch = flat.shape[0] * distribute.num_replicas()
        # Each level draws its own: as if the levels were parts of one larger batch.
        drawn = draws.integers(self.draw_key, self.levels * batch, flat.shape[1])
        own = distribute.local_rows(drawn[level * batch : (level + 1) * batch])
        return ops.take_along_axis(flat, own[:, None, None], axis=1)[:, 0]

    def _check(self):
        if self.num_words < 2:
            raise ValueError(f"`num_words` must be >= 2. Received: num_words={self.num_words}.")
        for name in ("sharpness", "scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {name}={getattr(self, name)}.")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={self.momentum}.")


def _maps_of(backbone, levels):
    """A function to the maps of the levels, and their widths; by default two, if there are two."""
    if backbone.kind == "vector":
        raise ValueError(
            f"`backbone` of OBoW must give a feature map. Received: '{backbone.name}', which gives "
            "vectors. Build the network without its pooling."
        )
    if levels is not None and levels < 1:
        raise ValueError(f"`levels` must be >= 1. Received: levels={levels}.")
    try:
        return last_maps(backbone, levels or 2)
    except ValueError:
        if levels is not None:
            raise
        return last_maps(backbone, 1)


def _without_border(x):
    """A map without its outermost places, where that leaves three a side."""
    return x[:, 1:-1, 1:-1] if min(x.shape[1:3]) >= 5 else x
