"""DeepCluster-v2: centroids of spherical k-means are the prototypes of the next epoch.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin 2020, https://arxiv.org/abs/2006.09882 (SwAV;
appendix). Departures from the authors' code: the first memory is of the images themselves, in the
order of the data (theirs: of two random views of each); an image that its epoch leaves out keeps
its embedding in the memory, and so has a cluster (theirs: not); below 64 px there are fewer
prototypes, a higher temperature, and batch normalisation at the end of the projector, with which
short runs learn more.
"""

import keras
import numpy as np
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.layers.norm import still
from keras_ssl.layers.starting import must_start, start_flag
from keras_ssl.methods import clusters
from keras_ssl.ops import clustering, is_small, l2_normalize

_ASSIGNED = 2  # views whose embeddings are kept and clustered


@keras.saving.register_keras_serializable("keras_ssl")
class DeepClusterV2(SSLModel):
    """Cluster last epoch's embeddings, and tell the clusters from every view of an image.

    With z_iv = projector(backbone(view v of image i)) of unit length, and for each of H heads
    centroids C_h of unit length and the cluster y_ih of image i, the loss over V views is

        L = 1/H sum_h  mean_iv  -log softmax(C_h z_iv / t)_{y_ih}.

    A memory bank holds z of each image's first view, another of its second, as they were when the
    image was last seen. Before every epoch (`begin_epoch`) each head clusters one of the two, head
    0 the first, head 1 the second, head 2 the first again from other random starts: `rounds` of
    spherical k-means (`keras_ssl.ops.clustering`). Its centroids are C_h for the epoch, without
    gradient. Before the first epoch both banks are filled by one pass over the images, in training
    mode, which leaves the running statistics as they are. An image without an embedding has the
    label -1 and does not count.

    Views of one size pass the backbone as one batch, all views the projector. Banks and centroids
    are variables of the model, 8 * n * width bytes on each device (1.3 GB for 1.3 million images);
    k-means needs as much again on the host.

    Beside the loss are logged, as means over the heads, `nmi`, how much the clusters tell of those
    of the epoch before (normalised mutual information, from 0 to 1; 0 in the first epoch); and
    `cluster_entropy`, how even their sizes are, from 0 (one has all: a collapse) to 1.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        num_images: n, images of the data, >= 2.
        projector: `keras.Model` from features to embeddings; by default Dense 2048, batch
            normalisation, ReLU, Dense 128; below 64 px, batch normalisation without gain and offset
            after that.
        num_prototypes: K of each head, from 2 to n; by default 3000, and 100 below 64 px, but at
            most a tenth of the images.
        num_heads: H, >= 1.
        temperature: t, > 0; by default 0.1, and 0.2 below 64 px.
        rounds: of k-means, >= 1.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1], the
            two whose embeddings are kept first.
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "clustering"
    loss_names = ("loss", "nmi", "cluster_entropy")
    batch_keys = ("views", "index")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=3e-3)

    def __init__(
        self,
        backbone,
        num_images: int,
        projector: keras.Layer | None = None,
        num_prototypes: int | None = None,
        num_heads: int = 3,
        temperature: float | None = None,
        rounds: int = 10,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        self.projector = projector or heads.mlp(
            self.backbone.feature_dim,
            (2048, 128),
            output_norm="plain" if small else None,
            use_bias=True,
            kernel_initializer=heads.pytorch_uniform(),
        )
        if num_prototypes is None:
            num_prototypes = clusters.number_for(100 if small else 3000, num_images)
        if temperature is None:
            temperature = 0.2 if small else 0.1
        self.num_images, self.num_prototypes = num_images, num_prototypes
        self.num_heads, self.temperature, self.rounds = num_heads, temperature, rounds
        clusters.check_numbers(self, num_prototypes=2, num_heads=1, rounds=1)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")
        width = self.projector.output_shape[-1]
        # Without a momentum a bank's row is the image's latest embedding.
        self.banks = [MemoryBank(num_images, width, 0.0, name=f"bank{v}") for v in range(_ASSIGNED)]
        self.prototypes = [
            clusters.state_of(self, f"prototypes{h}", (num_prototypes, width), "float32", 0.0)
            for h in range(num_heads)
        ]
        self.assignments = clusters.state_of(
            self, "assignments", (num_images, num_heads), "int32", -1
        )
        self.nmi = clusters.state_of(self, "nmi", (), "float32", 0.0)
        self.cluster_entropy = clusters.state_of(self, "cluster_entropy", (), "float32", 0.0)
        self.started = start_flag(self)

    def begin_epoch(self, source):
        """Cluster the embeddings in the banks, which before the first epoch it fills.

        Raises:
            ValueError: if the banks are to be filled and there are no images.
        """
        if must_start(self.started, source, "The memory of DeepClusterV2"):
            self._fill_banks(source)
            self.started.assign(1)
        banks = [ops.convert_to_numpy(bank.rows) for bank in self.banks]
        before = ops.convert_to_numpy(self.assignments)
        labels, found = np.full(before.shape, -1, "int32"), []
        for h, prototypes in enumerate(self.prototypes):
            rows = banks[h % len(banks)]
            (seen,) = np.nonzero(np.any(rows, axis=1))
            points = rows if len(seen) == len(rows) else rows[seen]
            centroids, labels[seen, h] = clustering.spherical_kmeans(
                points, self.num_prototypes, self.rounds, clusters.seed_of(self, h), "k-means"
            )
            prototypes.assign(centroids)
            counts = np.bincount(labels[seen, h], minlength=self.num_prototypes)
            told = clustering.agreement(before[:, h], labels[:, h])
            found.append((told, clustering.evenness(counts)))
        self.assignments.assign(labels)
        for variable, value in zip((self.nmi, self.cluster_entropy), np.mean(found, axis=0)):
            variable.assign(value)

    def compute_losses(self, batch, training):
        """Cross-entropy of the clusters of the global batch; then its embeddings are kept."""
        z = ops.stack(self._project(batch["views"], training), axis=1)  # (batch, views, width)
        z, index = distribute.all_gather(z), distribute.all_gather(batch["index"])
        number_of_views, width = z.shape[1:]
        labels = ops.take(self.assignments, ops.cast(index, "int32"), axis=0)  # (N, heads)
        labels = ops.repeat(labels, number_of_views, axis=0)  # in the order of the rows of z
        rows, total = ops.reshape(z, (-1, width)), 0.0
        for h, prototypes in enumerate(self.prototypes):
            scores = ops.matmul(rows, ops.transpose(prototypes)) / self.temperature
            total += losses.labelled_cross_entropy(scores, labels[:, h])
        if training:
            for v, bank in enumerate(self.banks):
                bank.update(index, z[:, v])
        return {
            "loss": total / self.num_heads,
            "nmi": ops.convert_to_tensor(self.nmi),
            "cluster_entropy": ops.convert_to_tensor(self.cluster_entropy),
        }

    def embed(self, images):
        """Unit-length projections in inference mode: what the prototypes are compared with."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def assign(self, images):
        """The nearest prototype of the first head."""
        scores = ops.matmul(self.embed(images), ops.transpose(self.prototypes[0]))
        return ops.argmax(scores, axis=-1)

    def default_views(self, image_size):
        """Multi-crop: two large and six small views (section 3.3).

        Two of one size below 64 px, and for networks that take one size alone.
        """
        return views.swav(image_size, None if self.backbone.takes_any_size else (2, 0))

    def paper_optimizer(self, total_steps, batch_size):
        """LARC on SGD with momentum 0.9 and L2 1e-6, cosine to a thousandth of the rate.

        The authors' scripts: 4.8 for batches of 4096, here in proportion for others, warmed up from
        a sixteenth of it over 10 epochs, a tenth of the run at most.
        """
        peak, warmup = 4.8 * batch_size / 4096, self.warmup_steps(total_steps)
        schedule = keras.optimizers.schedules.CosineDecay(
            peak / 16 if warmup else peak,
            total_steps - warmup,
            1e-3,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
        return optimizers.LARC(schedule, momentum=0.9, weight_decay=1e-6)

    def _fill_banks(self, source):
        """An embedding of each image, the same in all banks; zeros for unreadable ones."""

        def embed(images):
            with still():
                return l2_normalize(
                    heads.chain(images, self.backbone, self.projector, training=True)
                )

        size, embed = self.image_shape[:2], self.compile_function(embed)
        z, index = clusters.of_all_images(embed, source, size, "embeddings of all images")
        rows = np.zeros((self.num_images, z.shape[1]), "float32")
        rows[index] = z
        for bank in self.banks:
            bank.rows.assign(rows)

    def _project(self, images, training):
        """Embeddings of every view, unit length; one call of the backbone for each size."""
        heads.check_views("DeepClusterV2", images, "swav")
        features = ops.concatenate(heads.chain_views(images, self.backbone, training=training))
        return ops.split(l2_normalize(self.projector(features, training=training)), len(images))
