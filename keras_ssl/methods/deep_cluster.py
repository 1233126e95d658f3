"""DeepCluster: k-means on the features of all images gives the classes of the next epoch.

Caron, Bojanowski, Joulin, Douze 2018, https://arxiv.org/abs/1807.05520 (section 3). Departures from
the authors' code: images are drawn evenly and weighted by cluster, theirs are drawn evenly by
cluster, which is the same loss in expectation; the features are those of the pooled backbone, as
its AlexNet and VGG-16 with fixed Sobel filters are not among ours; the top layer is moved by the
optimizer of all others, whose state for it is put back to zero with it (theirs: plain SGD without
momentum); k-means draws its first centroids and fills empty clusters in its own way
(`keras_ssl.ops.clustering`); below 64 px there are fewer clusters, stronger views, and batch
normalisation before the top layer, with which short runs learn.
"""

import keras
import numpy as np
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, heads
from keras_ssl.methods import clusters
from keras_ssl.ops import clustering, is_small

_TOP_DEVIATION = 0.01  # of the top layer's first weights


@keras.saving.register_keras_serializable("keras_ssl")
class DeepCluster(SSLModel):
    """Alternate k-means on the features and classification of the clusters that it finds.

    Before every epoch (`begin_epoch`) the features f_i of all n images, in inference mode and
    without augmentation, are whitened on their `pca_dim` first principal axes and brought to unit
    length; k-means divides them into K clusters, of which none is left empty. With y_i the cluster
    of image i, n_k the size of cluster k, K' the number of clusters in use, and h_i the logits of
    a view of the image under a top layer made anew for the epoch,

        L = mean_i  w_i * -log softmax(h_i)_{y_i},    w_i = n / (K' n_{y_i}):

    the mean of its value for each cluster, so that none dominates (section 3.3). It begins each
    epoch at log K. Images without a cluster, as before the first epoch, have the label -1 and do
    not count.

    The result of k-means lies in variables of the model. The features of all images are held for a
    moment: `4 * n * features` bytes, in a temporary file above 4 GB, and `4 * n * pca_dim` in
    memory.

    Beside the loss are logged `nmi`, how much the clusters tell of those of the epoch before
    (normalised mutual information, from 0 to 1; 0 in the first epoch), which rises while training
    settles; and `cluster_entropy`, how even their sizes are, from 0 (one has all) to 1.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        num_images: n, images of the data, >= 2.
        num_clusters: K, from 2 to n; by default the paper's 10000, and 100 below 64 px, but at
            most a tenth of the images.
        pca_dim: principal axes that are kept, >= 1.
        rounds: of k-means, at most so many, >= 1.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range.
    """

    family = "clustering"
    loss_names = ("loss", "nmi", "cluster_entropy")
    batch_keys = ("views", "index")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3, constant=True)

    def __init__(
        self,
        backbone,
        num_images: int,
        num_clusters: int | None = None,
        pca_dim: int = 256,
        rounds: int = 20,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        small = is_small(self.image_shape)
        if num_clusters is None:
            wanted = 100 if small else 10_000
            num_clusters = clusters.number_for(wanted, num_images)
        self.num_images, self.num_clusters = num_images, num_clusters
        self.pca_dim, self.rounds = pca_dim, rounds
        clusters.check_numbers(self, num_clusters=2, pca_dim=1, rounds=1)
        self.top_layer = _top_layer(self.backbone.feature_dim, num_clusters, norm=small)
        self.assignments = clusters.state_of(self, "assignments", (num_images,), "int32", -1)
        self.cluster_weights = clusters.state_of(
            self, "cluster_weights", (num_clusters,), "float32", 0.0
        )
        self.nmi = clusters.state_of(self, "nmi", (), "float32", 0.0)
        self.cluster_entropy = clusters.state_of(self, "cluster_entropy", (), "float32", 0.0)

    def begin_epoch(self, source):
        """Cluster all images, and make the top layer anew.

        Raises:
            ValueError: if there are no images to cluster.
        """
        if source is None:
            raise ValueError(
                "DeepCluster clusters all images before every epoch. Received: ready batches, "
                "which `fit` does not read twice. Pass images to `fit`."
            )
        seed, encode = clusters.seed_of(self), self.compiled_hook(self.encode)
        size, labels = self.image_shape[:2], np.full(self.num_images, -1, "int32")
        features, index = clusters.of_all_images(encode, source, size, "features of all images")
        points = clustering.pca_whitened(features, self.pca_dim, seed)
        labels[index] = clustering.kmeans(points, self.num_clusters, self.rounds, seed, "k-means")
        self._keep(labels)
        self._renew_top_layer(seed)

    def compute_losses(self, batch, training):
        """Weighted cross-entropy of the clusters of the global batch."""
        (images,), index = batch["views"], distribute.all_gather(batch["index"])
        logits = heads.chain(images, self.backbone, self.top_layer, training=training)
        logits = distribute.all_gather(ops.cast(logits, "float32"))
        labels = ops.take(self.assignments, ops.cast(index, "int32"))
        weights = ops.take(self.cluster_weights, ops.maximum(labels, 0))
        return {
            "loss": losses.labelled_cross_entropy(logits, labels, weights),
            "nmi": ops.convert_to_tensor(self.nmi),
            "cluster_entropy": ops.convert_to_tensor(self.cluster_entropy),
        }

    def assign(self, images):
        """The cluster that the top layer finds most likely, which the epoch's k-means has named."""
        return ops.argmax(heads.chain(images, self.backbone, self.top_layer), axis=-1)

    def default_views(self, image_size):
        """Crop and flip (section 3.4); below 64 px InstDisc's crop, colours and grey."""
        return views.instdisc(image_size) if is_small(image_size) else views.supervised(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9, L2 1e-5 and a constant rate, 0.05 for batches of 256."""
        return optimizers.SGD(0.05 * batch_size / 256, momentum=0.9, weight_decay=1e-5)

    def _keep(self, labels):
        """Clusters of all images, their weights, and what is logged of them."""
        self.nmi.assign(clustering.agreement(ops.convert_to_numpy(self.assignments), labels))
        self.assignments.assign(labels)
        counts = np.bincount(labels[labels >= 0], minlength=self.num_clusters)
        used = counts > 0
        self.cluster_weights.assign(
            np.where(used, counts.sum() / (used.sum() * np.maximum(counts, 1)), 0.0)
        )
        self.cluster_entropy.assign(clustering.evenness(counts))

    def _renew_top_layer(self, seed):
        """First weights for the top layer, of which the optimizer then knows nothing."""
        kernel, bias = self.top_layer.trainable_variables
        draw = np.random.default_rng(seed).normal(0.0, _TOP_DEVIATION, kernel.shape)
        kernel.assign(draw.astype("float32"))
        bias.assign(np.zeros(bias.shape, "float32"))
        self.forget([kernel, bias])


def _top_layer(width, num_clusters, norm):
    """From features to logits; with `norm` the features are normalised by the batch first."""
    inputs = keras.Input((width,), name="top_layer_input")
    x = batch_norm(name="top_layer_bn", center=False, scale=False)(inputs) if norm else inputs
    start = keras.initializers.RandomNormal(stddev=_TOP_DEVIATION)
    dense = keras.layers.Dense(num_clusters, kernel_initializer=start, name="top_layer_dense")
    return keras.Model(inputs, dense(x), name="top_layer")
