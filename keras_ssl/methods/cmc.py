"""CMC: tell which channels of an image belong together, across all images.

Tian, Krishnan, Isola 2019, https://arxiv.org/abs/1906.05849 (sections 3 and 4.1). Departures from
the authors' code: any number of channel groups (theirs: L and ab); every encoder takes all
channels, of which those that are not its own are zero and get no gradient, so that any backbone
serves; the negatives of a step are drawn once and shared by the batch, as a function of the step;
rows of the banks are unit vectors from the start; below 64 px embeddings are batch-normalised,
with which short runs learn more.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.backbones.towers import channel_towers, towers_of
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.methods import memory
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class CMC(SSLModel):
    """Match one group of an image's channels with another among those of all images.

    By default the groups are lightness and colours, L and ab of CIE L*a*b*. Each of V groups has an
    encoder; z^v are its unit-length embeddings and M^v a bank of those of all n images. With

        l(z, M) = mean_i ( log sum_{j <= n} exp(<M_j, z_i> / t)  -  <M_i, z_i> / t )

    or its noise-contrastive estimate with K rows drawn at random, the same for all
    (`keras_ssl.losses.noise_contrastive`), the loss is (paper, equations 3 to 8)

        L = sum_{(u, v)} l(z^u, M^v),

    over all ordered pairs of groups (`graph="full"`), or those that contain the first group
    (`"core"`); of two groups both are the same, l(z^L, M^ab) + l(z^ab, M^L). Then row i of each
    bank moves to its new embedding (`keras_ssl.layers.memory_bank`). Rows are constants, so each
    term trains one encoder. Features are those of all encoders side by side.

    Args:
        backbone: what `keras_ssl.backbones.channel_towers` makes, which says the groups; or a
            `Backbone` or image `keras.Model` for RGB, of which it makes towers for L and ab.
        num_images: n, images of the data, >= 2.
        projectors: list of one `keras.Model` for each group, from its features to `dim` numbers; by
            default Dense with biases; below 64 px Dense and batch normalisation without gain and
            offset.
        graph: "full" or "core", see above.
        dim: width of the embeddings and of the banks.
        temperature: t, > 0; by default 0.07, and 0.1 below 64 px.
        num_negatives: K; 0 for the cross-entropy over all rows; by default 4096, and 0 below 64 px.
        bank_momentum: share of a row that is kept when its image is seen, in [0, 1).
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range, `graph` is unknown, or a projector has another
            width or is missing.
    """

    family = "contrastive"
    batch_keys = ("views", "index")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-4)

    def __init__(
        self,
        backbone,
        num_images: int,
        projectors: list[keras.Layer] | None = None,
        graph: str = "full",
        dim: int = 128,
        temperature: float | None = None,
        num_negatives: int | None = None,
        bank_momentum: float = 0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        backbone = backbones.adopt(backbone)
        self.backbone = backbone if towers_of(backbone) else channel_towers(backbone)
        small = is_small(self.image_shape)
        default_temperature, default_negatives = (0.1, 0) if small else (0.07, 4096)
        self.temperature = default_temperature if temperature is None else temperature
        self.num_negatives = default_negatives if num_negatives is None else num_negatives
        self.num_images, self.dim, self.bank_momentum = num_images, dim, bank_momentum
        memory.check_numbers(num_images, dim, self.num_negatives, self.temperature)
        # The backbone gives the towers' features side by side; `_ends` says where to cut.
        widths = [tower.output_shape[-1] for tower in towers_of(self.backbone)]
        self._ends = [sum(widths[:i]) for i in range(1, len(widths))]
        self.graph = graph
        self._pairs = _pairs(graph, len(widths))
        if projectors is None:
            head = _normalised_head if small else heads.plain_mlp
            projectors = [head(w, (dim,), name=f"projector{i}") for i, w in enumerate(widths, 1)]
        if len(projectors) != len(widths):
            raise ValueError(
                "`projectors` must hold one projector for each group of channels. Received: "
                f"{len(projectors)} for {len(widths)} groups."
            )
        for i, projector in enumerate(projectors):
            memory.check_width(f"projectors[{i}]", projector, dim)
        self.projectors = list(projectors)
        self.banks = [
            MemoryBank(num_images, dim, bank_momentum, name=f"bank{i}")
            for i in range(1, len(widths) + 1)
        ]

    def compute_losses(self, batch, training):
        """The sum of all terms of the global batch; then the banks follow the embeddings."""
        (images,), index = batch["views"], distribute.all_gather(batch["index"])
        z = [distribute.all_gather(each) for each in self._embeddings(images, training)]
        loss = sum(self._match(z[u], self.banks[v], index, training) for u, v in self._pairs)
        if training:
            for bank, each in zip(self.banks, z):
                bank.update(index, each)
        return {"loss": loss}

    def embed(self, images):
        """All embeddings in inference mode, side by side and together of unit length."""
        z = self._embeddings(images, False)
        return ops.concatenate(z, axis=-1) / len(z) ** 0.5

    def default_views(self, image_size):
        """One crop for all channels."""
        return views.cmc(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 1e-4 in the gradient; learning rate 0.03 * batch / 128.

        It falls to a tenth after 120, 160 and 200 of the authors' 240 epochs.
        """
        rate = 0.03 * batch_size / 128
        drops = [total_steps * epoch // 240 for epoch in (120, 160, 200)]
        schedule = optimizers.WarmupDrops(rate, drops)
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)

    def _embeddings(self, images, training):
        """Unit-length embeddings of every group, of the images of this replica."""
        parts = ops.split(self.backbone(images, training=training), self._ends, axis=-1)
        return [l2_normalize(p(x, training=training)) for p, x in zip(self.projectors, parts)]

    def _match(self, z, bank, index, training):
        """Loss of `z` against the bank of another group."""
        t, count = self.temperature, self.num_negatives
        return memory.discriminate(bank, z, index, t, count, self.draw_key, keep=training)


def _normalised_head(input_dim, widths, name):
    start = heads.pytorch_uniform()
    return heads.mlp(input_dim, widths, output_norm="plain", kernel_initializer=start, name=name)


def _pairs(graph, count):
    """Pairs (embeddings, bank) of the terms."""
    pairs = [(u, v) for u in range(count) for v in range(count) if u != v]
    if graph not in ("full", "core"):
        raise ValueError(f"`graph` must be 'full' or 'core'. Received: graph={graph!r}.")
    return pairs if graph == "full" else [pair for pair in pairs if 0 in pair]
