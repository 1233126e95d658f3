"""InstDisc: every image is a class of its own, with its past embeddings as the class's weights.

Wu, Xiong, Yu, Lin 2018, https://arxiv.org/abs/1805.01978 (section 3). Departures from the authors'
code: the K negatives of a step are drawn once and shared by the batch (theirs: K for each image),
so that they cost K rows of memory and not batch * K; the draw is a function of the step; rows of
the bank are unit vectors from the start. The proximal term is the paper's, their code lacks it.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.methods import memory
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class InstDisc(SSLModel):
    """Tell the view of an image from all n images by their rows in a memory bank.

    With v_i of unit length the embedding of image i and M the bank, the loss is the cross-entropy
    over all rows (paper, equations 2 and 3)

        L = mean_i ( log sum_{j <= n} exp(<M_j, v_i> / t)  -  <M_i, v_i> / t ),

    or its noise-contrastive estimate with K rows drawn at random
    (`keras_ssl.losses.noise_contrastive`), whose normalising constant Z is estimated from the first
    batch and kept from then on. The proximal term `prox_weight * mean_i |v_i - M_i|^2` (equation
    10) is added. Once the scores are formed, M_i moves to the new v_i: see
    `keras_ssl.layers.memory_bank`, which also says what the bank costs.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        num_images: n, images of the data, >= 2.
        projector: `keras.Model` from features to `dim` numbers; by default Dense with biases.
        dim: width of v and of the bank.
        temperature: t, > 0; by default 0.07, and 0.1 below 64 px.
        num_negatives: K; 0 for the cross-entropy over all rows; by default 4096, and 0 below 64 px.
        bank_momentum: share of a row that is kept when its image is seen, in [0, 1).
        prox_weight: weight of the proximal term, >= 0; the paper tries up to 50, with
            `bank_momentum=0`.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range, the projector has another width, or
            `prox_weight` is given with a `bank_momentum` above 0.
    """

    family = "contrastive"
    batch_keys = ("views", "index")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-4)

    def __init__(
        self,
        backbone,
        num_images: int,
        projector: keras.Layer | None = None,
        dim: int = 128,
        temperature: float | None = None,
        num_negatives: int | None = None,
        bank_momentum: float = 0.5,
        prox_weight: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        default_temperature, default_negatives = (0.1, 0) if small else (0.07, 4096)
        self.temperature = default_temperature if temperature is None else temperature
        self.num_negatives = default_negatives if num_negatives is None else num_negatives
        self.num_images, self.dim = num_images, dim
        self.bank_momentum, self.prox_weight = bank_momentum, prox_weight
        memory.check_numbers(num_images, dim, self.num_negatives, self.temperature)
        self._check_proximal_term()
        self.projector = projector or heads.plain_mlp(self.backbone.feature_dim, (dim,))
        memory.check_width("projector", self.projector, dim)
        self.bank = MemoryBank(num_images, dim, bank_momentum, name="bank")

    def compute_losses(self, batch, training):
        """The loss of the global batch against the bank; then the bank follows the embeddings."""
        (images,), index = batch["views"], distribute.all_gather(batch["index"])
        v = heads.chain(images, self.backbone, self.projector, training=training)
        v = distribute.all_gather(l2_normalize(v))
        t, count = self.temperature, self.num_negatives
        loss = memory.discriminate(self.bank, v, index, t, count, self.draw_key, keep=training)
        if self.prox_weight:
            distance = ops.sum(ops.square(v - self.bank.look_up(index)), axis=-1)
            loss += self.prox_weight * ops.mean(distance)
        if training:
            self.bank.update(index, v)
        return {"loss": loss}

    def embed(self, images):
        """Unit-length embeddings in inference mode: what the bank is compared with."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """The one view of the authors' code."""
        return views.instdisc(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 in the gradient, a tenth of the rate at 60 and 80 % each.

        Learning rate 0.03 * batch / 256 and L2 1e-4; below 64 px 0.03 * batch / 128 and L2 5e-4.
        """
        small = is_small(self.image_shape)
        rate = 0.03 * batch_size / (128 if small else 256)
        drops = [int(0.6 * total_steps), int(0.8 * total_steps)]
        schedule = optimizers.WarmupDrops(rate, drops)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=5e-4 if small else 1e-4)

    def _check_proximal_term(self):
        if not self.prox_weight >= 0:
            raise ValueError(
                f"`prox_weight` must be >= 0. Received: prox_weight={self.prox_weight}."
            )
        if self.prox_weight and self.bank_momentum:
            raise ValueError(
                "`prox_weight` and `bank_momentum` smooth the same thing, and the paper's proximal "
                "term holds embeddings to those of the epoch before. Received: prox_weight="
                f"{self.prox_weight}, bank_momentum={self.bank_momentum}. Pass bank_momentum=0."
            )
